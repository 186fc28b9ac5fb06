"""Sections of a SMIRNOFF force field to and from sections of timemachine's files, number by number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from openff.toolkit import Quantity
from openff.toolkit.typing.engines.smirnoff import ParameterHandler, ParameterType

from openff_diffsystem.chemistry.nonbonded import SIGMA_PER_RMIN_HALF
from openff_diffsystem.exceptions import ParameterMismatchError, UnsupportedForceFieldError
from openff_diffsystem.interop.timemachine.files.file_format import Section
from openff_diffsystem.parameters.offxml import numeric_attributes
from openff_diffsystem.sections import SECTIONS
from openff_diffsystem.units import from_md, to_md

_IMPROPER_TERMS = 3.0
"""Terms of an improper torsion; SMIRNOFF divides k by their number unless ``idivf`` says otherwise."""

Term = tuple[float, float, float]
"""k (kJ/mol), phase (rad) and periodicity of a torsion."""

Numbers = TypeVar("Numbers")
"""The numbers of one row of a section of timemachine's."""


class Codec(ABC, Generic[Numbers]):
    """One SMIRNOFF section and its counterpart in timemachine's files.

    Attributes
    ----------
    tag, name
        The section in OFFXML, and in timemachine's files.
    """

    tag: str
    name: str

    def section(self, handler: ParameterHandler, props: object = None) -> Section:
        """The section in timemachine's units and conventions.

        Raises
        ------
        UnsupportedForceFieldError
            If a parameter has something that timemachine cannot represent; the message names its SMIRKS.
        """
        parameters = handler.parameters
        return Section([p.smirks for p in parameters], [self.read(handler, p) for p in parameters], props)

    @abstractmethod
    def read(self, handler: ParameterHandler, parameter: ParameterType) -> Numbers:
        """The numbers of one parameter."""

    @abstractmethod
    def write(self, handler: ParameterHandler, parameter: ParameterType, new: Numbers, old: Numbers) -> None:
        """Set those numbers of one parameter that differ from the old ones, and keep the units."""

    @abstractmethod
    def attributes(self, params: Numbers) -> dict[str, object]:
        """Attributes of a new parameter with these numbers, in MD units, so that they are read back bit for bit."""

    def numbers(self, parameter: ParameterType, allowed: set[str]) -> dict[str, float]:
        """The numbers of a parameter by name, MD units. Names that are not allowed raise an error."""
        found = {attribute.label: to_md(value) for attribute, value in numeric_attributes(parameter)}
        if strange := sorted(set(found) - allowed):
            raise UnsupportedForceFieldError(
                f"{self.tag}, {parameter.smirks}: timemachine's {self.name} cannot represent {', '.join(strange)}"
            )
        return found


class _TwoNumbers(Codec[tuple[float, ...]]):
    """Bonds and angles."""

    def __init__(self, tag: str, name: str) -> None:
        self.tag, self.name = tag, name
        self.names = SECTIONS[tag].columns

    def read(self, handler: ParameterHandler, parameter: ParameterType) -> tuple[float, ...]:
        numbers = self.numbers(parameter, set(self.names))
        return tuple(numbers[name] for name in self.names)

    def write(
        self, handler: ParameterHandler, parameter: ParameterType, new: tuple[float, ...], old: tuple[float, ...]
    ) -> None:
        for name, value, before in zip(self.names, new, old, strict=True):
            if value != before:
                setattr(parameter, name, from_md(value, getattr(parameter, name)))

    def attributes(self, params: tuple[float, ...]) -> dict[str, object]:
        record = SECTIONS[self.tag]
        return {name: Quantity(value, record.unit(name)) for name, value in zip(self.names, params, strict=True)}


class _Torsions(Codec[Numbers]):
    def _divisor(self, handler: ParameterHandler, parameter: ParameterType, term: int) -> float:
        given = parameter.idivf[term] if parameter.idivf and len(parameter.idivf) > term else None
        return self._default_divisor(handler) if given is None else to_md(given)

    @abstractmethod
    def _default_divisor(self, handler: ParameterHandler) -> float:
        """What k is divided by where ``idivf`` is not given."""

    def _terms(self, handler: ParameterHandler, parameter: ParameterType) -> list[Term]:
        count = len(parameter.periodicity)
        names = {f"{name}{i + 1}" for i in range(count) for name in ("k", "phase", "idivf")}
        numbers = self.numbers(parameter, names)
        return [
            (
                numbers[f"k{i + 1}"] / self._divisor(handler, parameter, i),
                numbers[f"phase{i + 1}"],
                float(parameter.periodicity[i]),
            )
            for i in range(count)
        ]

    def _write_terms(
        self, handler: ParameterHandler, parameter: ParameterType, new: list[Term], old: list[Term]
    ) -> None:
        if [term[2] for term in new] != [term[2] for term in old]:
            raise ParameterMismatchError(
                f"{self.tag}, {parameter.smirks}: the file has periodicities {[term[2] for term in new]}, the template "
                f"{[term[2] for term in old]}; only force constants and phases can change"
            )
        for i, ((k, phase, _), (old_k, old_phase, _)) in enumerate(zip(new, old, strict=True)):
            if k != old_k:
                parameter.k[i] = from_md(k * self._divisor(handler, parameter, i), parameter.k[i])
            if phase != old_phase:
                parameter.phase[i] = from_md(phase, parameter.phase[i])

    def _term_attributes(self, terms: list[Term]) -> dict[str, object]:
        attributes: dict[str, object] = {}
        for i, (k, phase, periodicity) in enumerate(terms, start=1):
            if periodicity != int(periodicity):
                raise UnsupportedForceFieldError(f"{self.name}: SMIRNOFF has no periodicity {periodicity}")
            attributes |= {
                f"k{i}": Quantity(k, "kilojoule / mole"),
                f"phase{i}": Quantity(phase, "radian"),
                f"periodicity{i}": int(periodicity),
                f"idivf{i}": 1.0,
            }
        return attributes


class _Propers(_Torsions[list[Term]]):
    tag, name = "ProperTorsions", "ProperTorsion"

    def _default_divisor(self, handler: ParameterHandler) -> float:
        return 1.0

    def read(self, handler: ParameterHandler, parameter: ParameterType) -> list[Term]:
        return self._terms(handler, parameter)

    def write(self, handler: ParameterHandler, parameter: ParameterType, new: list[Term], old: list[Term]) -> None:
        self._write_terms(handler, parameter, new, old)

    def attributes(self, params: list[Term]) -> dict[str, object]:
        return self._term_attributes(params)


class _Impropers(_Torsions[Term]):
    tag, name = "ImproperTorsions", "ImproperTorsion"

    def _default_divisor(self, handler: ParameterHandler) -> float:
        return _IMPROPER_TERMS if handler.default_idivf == "auto" else float(handler.default_idivf)

    def read(self, handler: ParameterHandler, parameter: ParameterType) -> Term:
        terms = self._terms(handler, parameter)
        if len(terms) != 1:
            raise UnsupportedForceFieldError(
                f"ImproperTorsions, {parameter.smirks}: timemachine has one term per pattern, this one has {len(terms)}"
            )
        return terms[0]

    def write(self, handler: ParameterHandler, parameter: ParameterType, new: Term, old: Term) -> None:
        self._write_terms(handler, parameter, [new], [old])

    def attributes(self, params: Term) -> dict[str, object]:
        return self._term_attributes([params])


class _LennardJones(Codec[tuple[float, float]]):
    tag, name = "vdW", "LennardJones"

    def read(self, handler: ParameterHandler, parameter: ParameterType) -> tuple[float, float]:
        numbers = self.numbers(parameter, {"epsilon", "sigma", "rmin_half"})
        sigma = numbers["sigma"] if "sigma" in numbers else SIGMA_PER_RMIN_HALF * numbers["rmin_half"]
        if numbers["epsilon"] < 0:
            raise UnsupportedForceFieldError(f"vdW, {parameter.smirks}: epsilon is negative and has no square root")
        return sigma, math.sqrt(numbers["epsilon"])

    def write(
        self, handler: ParameterHandler, parameter: ParameterType, new: tuple[float, float], old: tuple[float, float]
    ) -> None:
        if new[0] != old[0]:
            written = {attribute.label for attribute, _ in numeric_attributes(parameter)}
            name, factor = ("sigma", 1.0) if "sigma" in written else ("rmin_half", SIGMA_PER_RMIN_HALF)
            setattr(parameter, name, from_md(new[0] / factor, getattr(parameter, name)))
        if new[1] != old[1]:
            _check_root(new[1], parameter.smirks)
            parameter.epsilon = from_md(new[1] ** 2, parameter.epsilon)

    def attributes(self, params: tuple[float, float]) -> dict[str, object]:
        sigma, root = params
        _check_root(root)
        return {"sigma": Quantity(sigma, "nanometer"), "epsilon": Quantity(root**2, "kilojoule / mole")}


def _check_root(root: float, smirks: str | None = None) -> None:
    if root < 0:
        where = "LennardJones" if smirks is None else f"LennardJones, {smirks}"
        raise UnsupportedForceFieldError(
            f"{where}: sqrt(epsilon) is {root}; SMIRNOFF's epsilon loses this sign, and interactions with other atoms "
            "would change theirs"
        )


CODECS: tuple[Codec[Any], ...] = (
    _TwoNumbers("Bonds", "HarmonicBond"),
    _TwoNumbers("Angles", "HarmonicAngle"),
    _Propers(),
    _Impropers(),
    _LennardJones(),
)
"""Every section that has a counterpart, except charges."""
