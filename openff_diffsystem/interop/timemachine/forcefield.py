"""From a SMIRNOFF force field to timemachine's handles and its ``Forcefield``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import ArrayLike
from openff.toolkit import ForceField
from rdkit import Chem

from openff_diffsystem.exceptions import MissingStackError, UnsupportedForceFieldError, UnsupportedInputError
from openff_diffsystem.interop.timemachine.conventions import PROTEIN_FF, WATER_FF
from openff_diffsystem.interop.timemachine.files.file_format import ForceFieldFile, Section
from openff_diffsystem.interop.timemachine.files.smirnoff import smirnoff_sections
from openff_diffsystem.interop.timemachine.handles import atom_handles, bonded, charge_handles
from openff_diffsystem.interop.timemachine.handles.charge_sources import (
    ForceFieldChargeHandler,
    FunctionChargeHandler,
    NeuralChargeHandler,
    ToolkitCharges,
)
from openff_diffsystem.interop.timemachine.handles.handle import AnyHandle, Handle

Charges = str | Callable[[Chem.Mol], ArrayLike] | tuple[AnyHandle, AnyHandle]
"""Where charges come from; see :meth:`Handles.from_smirnoff`."""


@dataclass(frozen=True)
class Handles:
    """timemachine's eight handles under the names of its ``Forcefield``, and the force fields of the surroundings.

    ``intra`` handles are for interactions within the ligand and have numbers of their own. A missing section
    has ``None``.
    """

    hb_handle: AnyHandle | None
    ha_handle: AnyHandle | None
    pt_handle: AnyHandle | None
    it_handle: AnyHandle | None
    q_handle: AnyHandle | None
    q_handle_intra: AnyHandle | None
    lj_handle: AnyHandle | None
    lj_handle_intra: AnyHandle | None
    protein_ff: str = PROTEIN_FF
    water_ff: str = WATER_FF

    @classmethod
    def from_smirnoff(
        cls,
        force_field: ForceField,
        charges: Charges | object = "smirnoff",
        *,
        protein_ff: str = PROTEIN_FF,
        water_ff: str = WATER_FF,
    ) -> Handles:
        """Handles with the numbers of a force field.

        Parameters
        ----------
        force_field
            ``ForceField``, swapped or stock. A section that is missing gives ``None``.
        charges
            ``"smirnoff"``, as the force field assigns them; ``"neural"``, from the network of its NeuralCharges
            section, with its weights as ``params``; ``"am1bcc"``; ``"precomputed"``, from the molecule's atoms; any
            other name, a method of the registered toolkits such as a NAGL model; a function from an RDKit molecule
            to charges in e; or a pair of handles, for the environment and within the ligand.

        Raises
        ------
        UnsupportedForceFieldError
            If timemachine cannot represent the force field.
        UnsupportedInputError
            If ``charges`` is none of these.
        """
        sections = smirnoff_sections(force_field)
        if "LennardJones" in sections:
            sections["LennardJonesIntra"] = sections["LennardJones"]
        made = {name: _handle(name, section) for name, section in sections.items()}
        q_handle, q_handle_intra = _charge_handles(force_field, charges)
        return cls._of(made, q_handle, q_handle_intra, protein_ff, water_ff)

    @classmethod
    def from_file(cls, file: ForceFieldFile, *, ignore: Iterable[str] = ()) -> Handles:
        """Handles with the numbers of a timemachine file. Missing ``intra`` sections are copied from the others.

        Charges within the ligand may be of another kind than the others, as in timemachine. Sections of the solvent
        have no handle in timemachine's ``Forcefield``: they are left out if they only repeat the others.

        Parameters
        ----------
        file
            The content of a file.
        ignore
            Sections to leave out, for example ``("GBSA",)``, which ``Forcefield.load_from_file`` drops silently.

        Raises
        ------
        UnsupportedForceFieldError
            If there is no handle for a section of the file, the file has two sections of charges, or a section of the
            solvent with numbers of its own.
        """
        made = {}
        dropped = {ignore} if isinstance(ignore, str) else set(ignore)
        for name, section in file.sections.items():
            if name in dropped:
                continue
            if name.endswith(_SOLVENT):
                _check_solvent(name, section, file)
            else:
                made[name] = _handle(name, section)
        charges = {
            suffix: [f"{kind}{suffix}" for kind in _CHARGE_SECTIONS if f"{kind}{suffix}" in made]
            for suffix in ("", _INTRA)
        }
        for names in charges.values():
            if len(names) > 1:
                raise UnsupportedForceFieldError(f"the file has several sections of charges: {', '.join(names)}")
        for name in ("LennardJones", *(() if charges[_INTRA] else charges[""])):
            if name in made and f"{name}{_INTRA}" not in made:
                made[f"{name}{_INTRA}"] = _handle(f"{name}{_INTRA}", file.sections[name])
        charges[_INTRA] = charges[_INTRA] or [f"{name}{_INTRA}" for name in charges[""]]
        q_handle, q_intra = (made[names[0]] if names else None for names in charges.values())
        return cls._of(made, q_handle, q_intra, file.protein_ff, file.water_ff)

    @classmethod
    def _of(
        cls,
        made: dict[str, Handle],
        q_handle: AnyHandle | None,
        q_handle_intra: AnyHandle | None,
        protein_ff: str,
        water_ff: str,
    ) -> Handles:
        return cls(
            hb_handle=made.get("HarmonicBond"),
            ha_handle=made.get("HarmonicAngle"),
            pt_handle=made.get("ProperTorsion"),
            it_handle=made.get("ImproperTorsion"),
            q_handle=q_handle,
            q_handle_intra=q_handle_intra,
            lj_handle=made.get("LennardJones"),
            lj_handle_intra=made.get("LennardJonesIntra"),
            protein_ff=protein_ff,
            water_ff=water_ff,
        )

    def ordered(self) -> tuple[AnyHandle | None, ...]:
        """The eight handles, in timemachine's order."""
        return tuple(getattr(self, place) for place in self._places())

    def _places(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self) if "handle" in field.name)

    def to_file(self) -> ForceFieldFile:
        """The handles' numbers as a timemachine file.

        Raises
        ------
        UnsupportedForceFieldError
            If the charges cannot be written, or a handle belongs to another place: its section would be read as that of
            another handle, or overwrite it.
        NonFiniteParameterError
            If a number is NaN or infinite.
        """
        sections = {}
        for place in self._places():
            handle = getattr(self, place)
            if handle is None:
                continue
            ((name, body),) = handle.serialize().items()
            if name in sections or name.endswith(_INTRA) != place.endswith("_intra"):
                raise UnsupportedForceFieldError(
                    f"{place} is a {type(handle).__name__}, whose section {name} is "
                    + ("already taken" if name in sections else f"not the one that {place} is read from")
                )
            params = [row[1] if len(row) == 2 else tuple(row[1:]) for row in body["patterns"]]
            sections[name] = Section([row[0] for row in body["patterns"]], params, body.get("props"))
        return ForceFieldFile(sections, self.protein_ff, self.water_ff)

    def to_timemachine(self) -> Any:
        """timemachine's ``Forcefield`` with these handles.

        ``Forcefield.from_handlers`` is not used, because it drops classes that are not timemachine's own.

        Raises
        ------
        MissingStackError
            If timemachine cannot be imported.
        """
        try:
            from timemachine.ff import Forcefield
        except ImportError as error:
            raise MissingStackError(
                f"timemachine cannot be imported ({error}); put a checkout of proteneer/timemachine on PYTHONPATH"
            ) from error
        return Forcefield(**{field.name: getattr(self, field.name) for field in fields(self)}, env_bcc_handle=None)


def to_forcefield(
    force_field: ForceField,
    charges: Charges | object = "smirnoff",
    *,
    protein_ff: str = PROTEIN_FF,
    water_ff: str = WATER_FF,
) -> Any:
    """timemachine's ``Forcefield`` with our handles and the numbers of a SMIRNOFF force field.

    Parameters and errors are those of :meth:`Handles.from_smirnoff` and :meth:`Handles.to_timemachine`.
    """
    return Handles.from_smirnoff(force_field, charges, protein_ff=protein_ff, water_ff=water_ff).to_timemachine()


_CHARGE_SECTIONS = ("SimpleCharge", "PrecomputedCharge", "AM1BCC", "AM1CCC", "AM1BCCCCC")


_INTRA, _SOLVENT = "Intra", "Solvent"

_CLASSES: dict[str, Callable[..., Handle]] = {
    "HarmonicBond": bonded.HarmonicBondHandler,
    "HarmonicAngle": bonded.HarmonicAngleHandler,
    "ProperTorsion": bonded.ProperTorsionHandler,
    "ImproperTorsion": bonded.ImproperTorsionHandler,
    "LennardJones": atom_handles.LennardJonesHandler,
    "LennardJonesIntra": atom_handles.LennardJonesIntraHandler,
    "SimpleCharge": atom_handles.SimpleChargeHandler,
    "SimpleChargeIntra": atom_handles.SimpleChargeIntraHandler,
    "PrecomputedCharge": charge_handles.PrecomputedChargeHandler,
    "PrecomputedChargeIntra": charge_handles.PrecomputedChargeIntraHandler,
    "AM1BCC": charge_handles.AM1BCCHandler,
    "AM1BCCIntra": charge_handles.AM1BCCIntraHandler,
    "AM1CCC": charge_handles.AM1CCCHandler,
    "AM1CCCIntra": charge_handles.AM1CCCIntraHandler,
    "AM1BCCCCC": charge_handles.AM1BCCCCCHandler,
    "AM1BCCCCCIntra": charge_handles.AM1BCCCCCIntraHandler,
}
"""The handle of each section of a file."""


def _handle(name: str, section: Section) -> Handle:
    if name not in _CLASSES:
        raise UnsupportedForceFieldError(
            f"there is no handle for section {name} of a timemachine file; pass ignore=({name!r},) to leave it out"
        )
    return _CLASSES[name](section.smirks, section.params, section.props)


def _check_solvent(name: str, section: Section, file: ForceFieldFile) -> None:
    base = file.sections.get(name.removesuffix(_SOLVENT))
    if base is None or (base.smirks, base.params) != (section.smirks, section.params):
        raise UnsupportedForceFieldError(
            f"section {name} differs from {name.removesuffix(_SOLVENT)}, and no handle has numbers for the solvent"
        )


def _is_handle(thing: object) -> bool:
    return isinstance(thing, AnyHandle) and not isinstance(thing, type)


def _charge_handles(force_field: ForceField, charges: object) -> tuple[AnyHandle, AnyHandle]:
    if isinstance(charges, tuple):
        if len(charges) != 2 or not all(_is_handle(one) for one in charges):
            raise UnsupportedInputError(
                f"a pair of charges is two handles, for the environment and within the ligand, not {charges!r}"
            )
        return charges
    if charges == "smirnoff":
        return ForceFieldChargeHandler(force_field), ForceFieldChargeHandler(force_field)
    if charges == "neural":
        return NeuralChargeHandler.from_force_field(force_field), NeuralChargeHandler.from_force_field(force_field)
    if charges == "am1bcc":
        return charge_handles.AM1BCCHandler(), charge_handles.AM1BCCIntraHandler()
    if charges == "precomputed":
        return charge_handles.PrecomputedChargeHandler(), charge_handles.PrecomputedChargeIntraHandler()
    source = ToolkitCharges(charges) if isinstance(charges, str) else charges
    if not callable(source):
        raise UnsupportedInputError(f"charges must be a name, a function or a pair of handles, not {charges!r}")
    return FunctionChargeHandler(source), FunctionChargeHandler(source)
