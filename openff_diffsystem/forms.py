"""Functional forms beyond SMIRNOFF's own: what a custom section needs so that systems hold and differentiate it.

A form is a section name, the attributes of a term, and a function that gives energies. Its parameters are read from
the section's ``ParameterHandler``, assigned by SMIRKS with SMIRNOFF's rule that the last match wins, and written back
like those of any other section; nothing else has to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from openff_diffsystem.exceptions import (
    DuplicateFormError,
    FormShapeError,
    UnregisteredFormError,
    UnsupportedInputError,
)

Settings = Mapping[str, Any]
"""The numbers of the section itself by attribute name, scalars in MD units."""


class ValenceEnergy(Protocol):
    """Energies of terms between a few atoms of one molecule."""

    def __call__(self, corners: Sequence[Any], parameters: Any, settings: Settings) -> Any:
        """Energy of each term, ``(n_terms, 1)``, kJ/mol, from pure jax operations.

        Parameters
        ----------
        corners
            For each atom of a term its position: three arrays, ``(n_terms, 1)``, nm. ``potentials.geometry`` has
            distances, angles and dihedrals of those with derivatives that stay finite.
        parameters
            ``(n_terms, n_columns)``, MD units.
        settings
            The section's own numbers.
        """


class PairEnergy(Protocol):
    """Energies of pairs of particles, in place of Lennard-Jones."""

    def __call__(self, r2: Any, a: Sequence[Any], b: Sequence[Any], settings: Settings) -> Any:
        """Energy of each pair, ``(n_pairs, 1)``, kJ/mol, from pure jax operations; combining rules are its own.

        Parameters
        ----------
        r2
            Squared distances, ``(n_pairs, 1)``, nm2; 1 for fillers. In a box also far beyond the cutoff, up to 730
            times in double and 190 times in single precision, where the energy is integrated.
        a, b
            The columns of both particles, ``(n_pairs, 1)`` each.
        settings
            The section's own numbers; ``scale14`` has been taken care of.
        """


@dataclass(frozen=True)
class ValenceForm:
    """A section of terms between atoms, such as a Morse bond.

    Attributes
    ----------
    section
        ``TAGNAME`` of its ``ParameterHandler``.
    columns
        Attributes of its parameters, by the names that OFFXML gives them.
    n_atoms
        Tagged atoms of its SMIRKS. The order of the atoms and its reverse are the same term, and the last match wins;
        ``energy`` gets the atoms in the order of the tags, so that columns may belong to ``:1`` or to ``:3``. Where
        a SMIRKS matches from both ends, which is first is not said.
    energy
        Energies of terms.
    """

    section: str
    columns: tuple[str, ...]
    n_atoms: int
    energy: ValenceEnergy


@dataclass(frozen=True)
class PairForm:
    """A section of parameters of single atoms that takes the place of ``vdW``, such as a Buckingham potential.

    The section has to have a number ``scale14`` of its own, and ``cutoff`` for periodic systems. There its interactions
    end at the cutoff, are switched off before it over ``switch_width``, if the section has that, and are averaged
    beyond, as openff-interchange has OpenMM do for plugins such as smirnoff-plugins. If the section has them,
    ``periodic_method`` must be ``cutoff`` and ``nonperiodic_method`` ``no-cutoff``. Implicit solvent is refused.

    Attributes
    ----------
    section, columns
        As for :class:`ValenceForm`.
    energy
        Energies of pairs; the same if both particles change places. In boxes they must fall faster than 1/r^3.
    sites
        ``TAGNAME`` of a ``VirtualSiteHandler`` whose parameters have these columns, in place of ``epsilon`` and
        ``sigma``, if virtual sites are to be covered. In a system its sites are the section ``VirtualSites``.
    """

    section: str
    columns: tuple[str, ...]
    energy: PairEnergy
    sites: str | None = None


Form = ValenceForm | PairForm


def checked_energies(form: Form, energies: Any, shape: tuple[int, ...]) -> Any:
    """What a form's energy function returned, if it has the shape that it must have.

    Raises
    ------
    FormShapeError
        If not: numbers of another shape would be broadcast, and counted many times.
    """
    found = getattr(energies, "shape", ())
    if found != shape:
        raise FormShapeError(f"the energy of {form.section} has shape {found}; it must be {shape}, one number per term")
    return energies


_REGISTERED: dict[str, Form] = {}

_BUILT_IN = frozenset(
    {"Constraints", "Bonds", "Angles", "ProperTorsions", "ImproperTorsions", "vdW", "Electrostatics"}
    | {"VirtualSites", "GBSA", "NonbondedExceptions", "NBFIX"}
)
"""Sections of systems whose energy, if any, is not that of a registered form."""


def register_form(form: Form) -> None:
    """Make a section known. Do it at the top level of the module that defines its ``ParameterHandler``.

    The registry is that of a process: spawned workers, and programs that load systems, have to import that module too.
    Registering a form again replaces it where the energy function is of the same module and name, as when a cell of a
    notebook is run again or a module is reloaded; systems use the new function from their next evaluation
    on, batches that exist keep the old one.

    Raises
    ------
    DuplicateFormError
        If another form has that section: one with another energy function, kind, columns, number of atoms or
        section of sites. Or if the section, or that of its sites, is one of SMIRNOFF's own.
    UnsupportedInputError
        If it is no form, or its columns are not names.
    """
    from openff_diffsystem.chemistry.build import SUPPORTED_SECTIONS

    if not isinstance(form, ValenceForm | PairForm):
        raise UnsupportedInputError(f"expected a ValenceForm or a PairForm, got {type(form).__name__}")
    if isinstance(form.columns, str) or not all(isinstance(name, str) for name in form.columns):
        raise UnsupportedInputError(f"columns of {form.section} must be names of attributes, got {form.columns!r}")
    form = replace(form, columns=tuple(form.columns))
    for section in (form.section, getattr(form, "sites", None)):
        if section in SUPPORTED_SECTIONS:
            raise DuplicateFormError(f"{section} is one of SMIRNOFF's own sections")
    add_form(form)


def add_form(form: Form) -> None:
    """:func:`register_form` without a look at SMIRNOFF's own sections, which takes an import of openff-toolkit."""
    if _identity(_REGISTERED.setdefault(form.section, form)) != _identity(form):
        raise DuplicateFormError(f"another functional form is registered for the section {form.section}")
    _REGISTERED[form.section] = form


def _identity(form: Form) -> tuple:
    """What stays the same when the code that defines a form is run again."""
    energy = getattr(form.energy, "__qualname__", None)
    where = (form.energy.__module__, energy) if energy else form.energy
    return type(form), form.section, form.columns, getattr(form, "n_atoms", None), getattr(form, "sites", None), where


def is_built_in(section: str) -> bool:
    """Whether a name is that of a section whose energy, if any, is not that of a form."""
    return section in _BUILT_IN


def form_of(section: str) -> Form | None:
    """The form registered for a section."""
    return _REGISTERED.get(section)


def required_forms(sections: Iterable[str]) -> tuple[Form, ...]:
    """The forms of all of a system's sections that have one, in order.

    Raises
    ------
    UnregisteredFormError
        If one is not registered in this process, as when a file is read where nobody imported the form's module.
    """
    forms = {section: _REGISTERED.get(section) for section in sections if section not in _BUILT_IN}
    missing = [section for section, form in forms.items() if form is None]
    if missing:
        raise UnregisteredFormError(
            f"no functional form is registered in this process for {', '.join(missing)}: import the module that calls "
            "openff_diffsystem.forms.register_form for it, before a system is loaded or evaluated"
        )
    return tuple(form for form in forms.values() if form is not None)


def valence_forms(sections: Mapping[str, Any] | Sequence[str]) -> list[ValenceForm]:
    """The registered forms between atoms among some sections, in order."""
    return _of_kind(ValenceForm, sections)


def pair_forms(sections: Mapping[str, Any] | Sequence[str]) -> list[PairForm]:
    """The registered forms that take the place of ``vdW`` among some sections, in order."""
    return _of_kind(PairForm, sections)


def _of_kind(kind: Callable[..., Any], sections: Mapping[str, Any] | Sequence[str]) -> list[Any]:
    return [form for form in map(_REGISTERED.get, sections) if isinstance(form, kind)]  # type: ignore[arg-type]
