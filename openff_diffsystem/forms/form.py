"""Functional forms beyond SMIRNOFF's own: what a custom section needs so that systems hold and differentiate it.

A form is a section name, the attributes of a term, and a function that gives energies. Its parameters are read from
the section's ``ParameterHandler``, assigned by SMIRKS with SMIRNOFF's rule that the last match wins, and written back
like those of any other section; nothing else has to be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from openff_diffsystem._jax.types import AnyArray, Column, Vector
from openff_diffsystem.exceptions import FormShapeError

Settings = Mapping[str, Float[AnyArray, ""]]
"""The numbers of the section itself by attribute name, scalars in MD units."""


@runtime_checkable
class ValenceEnergy(Protocol):
    """Energies of terms between a few atoms of one molecule."""

    def __call__(
        self, corners: Sequence[Vector], parameters: Float[Array, "terms columns"], settings: Settings
    ) -> Float[Array, "terms 1"]:
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


@runtime_checkable
class PairEnergy(Protocol):
    """Energies of pairs of particles, in place of Lennard-Jones."""

    def __call__(self, r2: Column, a: Sequence[Column], b: Sequence[Column], settings: Settings) -> Column:
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
    columns: Sequence[str]
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
    columns: Sequence[str]
    energy: PairEnergy
    sites: str | None = None


Form = ValenceForm | PairForm


def checked_energies(form: Form, energies: Any, shape: tuple[int, ...]) -> Float[Array, "..."]:
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
