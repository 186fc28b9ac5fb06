"""Functional forms beyond SMIRNOFF's own: their descriptions, and the signatures of their energy functions."""

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
            The position of each atom of a term: three arrays, ``(n_terms, 1)``, nm. ``potentials.geometry`` computes
            distances, angles and dihedral angles from them, with derivatives that stay finite.
        parameters
            ``(n_terms, n_columns)``, MD units.
        settings
            The section's own numbers.
        """


@runtime_checkable
class PairEnergy(Protocol):
    """Energies of pairs of particles, in place of Lennard-Jones."""

    def __call__(self, r2: Column, a: Sequence[Column], b: Sequence[Column], settings: Settings) -> Column:
        """Energy of each pair, ``(n_pairs, 1)``, kJ/mol, from pure jax operations. It applies its own combining rules.

        Parameters
        ----------
        r2
            Squared distances, ``(n_pairs, 1)``, nm2; 1 for pairs that only fill up the array. In a box the energy is
            integrated beyond the cutoff: up to 730 times the cutoff in double and 190 times in single precision.
        a, b
            The columns of both particles, ``(n_pairs, 1)`` each.
        settings
            The section's own numbers. ``scale14`` is applied elsewhere.
        """


@dataclass(frozen=True)
class ValenceForm:
    """A section of terms between atoms, such as a Morse bond.

    Attributes
    ----------
    section
        ``TAGNAME`` of its ``ParameterHandler``.
    columns
        Attributes of its parameters, by their names in OFFXML.
    n_atoms
        Tagged atoms of its SMIRKS. The order of the atoms and its reverse are the same term, and the last match wins;
        ``energy`` gets the atoms in the order of the tags, so that columns may belong to ``:1`` or to ``:3``. If a
        SMIRKS matches in both directions, it is unspecified which end comes first.
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

    The section must have its own ``scale14``, and its own ``cutoff`` for periodic systems. In a box its interactions
    end at the cutoff. They are switched off before it over ``switch_width``, if the section has one, and averaged
    beyond it, as openff-interchange lets OpenMM do for plugins such as smirnoff-plugins. If the section has
    ``periodic_method`` or ``nonperiodic_method``, they must be ``cutoff`` and ``no-cutoff``. Implicit solvent is
    refused.

    Attributes
    ----------
    section, columns
        As for :class:`ValenceForm`.
    energy
        Energies of pairs; the same if both particles change places. In boxes they must fall faster than 1/r^3.
    sites
        ``TAGNAME`` of a ``VirtualSiteHandler`` whose parameters have these columns in place of ``epsilon`` and
        ``sigma``, for force fields with virtual sites. In a system these sites are the section ``VirtualSites``.
    """

    section: str
    columns: Sequence[str]
    energy: PairEnergy
    sites: str | None = None


Form = ValenceForm | PairForm


def checked_energies(form: Form, energies: Any, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """The energies that a form's function returned, if their shape is right.

    Raises
    ------
    FormShapeError
        If not: an array of another shape would be broadcast, and its numbers counted many times.
    """
    found = getattr(energies, "shape", ())
    if found != shape:
        raise FormShapeError(f"the energy of {form.section} has shape {found}; it must be {shape}, one number per term")
    return energies
