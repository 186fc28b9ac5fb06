"""The sections of a force field and of a system, as data: one record each.

Everything that reads, assigns, evaluates, exports or fits a section looks here for its columns, units and words. A new
built-in section is a record here, an assigner in ``chemistry/sections.py`` and an energy in ``potentials/isolated.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SITE_TYPES = ("BondCharge", "MonovalentLonePair", "DivalentLonePair", "TrivalentLonePair")
"""The four types of virtual site of the SMIRNOFF specification; a site's type is its position here."""

WEIGHTED_SITE_TYPES = ("TwoParticleAverage", "ThreeParticleAverage", "OutOfPlane")
"""OpenMM's types that are weighted sums of atoms; their numbers follow those of :data:`SITE_TYPES`."""

NO_ATOM = -1
"""Fills the orientation atoms of sites that have fewer than four."""

UNITS: Mapping[str, str] = {
    **dict.fromkeys(("length", "distance", "sigma", "rmin_half", "radius", "solvent_radius"), "nanometer"),
    **dict.fromkeys(("cutoff", "switch_width"), "nanometer"),
    **dict.fromkeys(("angle", "phase", "outOfPlaneAngle", "inPlaneAngle"), "radian"),
    **dict.fromkeys(("epsilon", "energy"), "kilojoule / mole"),
    **dict.fromkeys(("charge", "charge_increment"), "elementary_charge"),
    "charge_product": "elementary_charge**2",
    "surface_area_penalty": "kilojoule / mole / nanometer**2",
    "weightCross": "1 / nanometer",
}
"""Units of attributes that have the same unit in all sections. Others are dimensionless, or a section gives a unit."""


@dataclass(frozen=True)
class Words:
    """An attribute of a section that is a word: which functional form, method or rule the force field asks for.

    Attributes
    ----------
    isolated, periodic
        The words that are covered without a box and in one; ``None`` if every word is.
    """

    isolated: tuple[str, ...] | None = None
    periodic: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Section:
    """What the package knows about one section.

    Attributes
    ----------
    tag
        Its name, in an OFFXML file or, for sections that only OpenMM has, in a system.
    columns
        Attributes of a term in a system, in the order in which energy functions take them.
    n_atoms
        Atoms of a term; 1 for sections whose terms are particles.
    units
        MD units of columns and settings that are not in :data:`UNITS`, by name.
    per_particle
        Whether the terms are the particles of a system: all of them, in topology order, virtual sites after atoms.
    settings
        Numbers of the section itself.
    words
        Attributes of the section itself that are words.
    static
        Integers of a term that are not differentiated, by name.
    trainable
        Attributes of parameters that a fit may change, by their names in OFFXML without the number at the end.
    whole_numbers
        Attributes that must be whole numbers, so that no fit may change them.
    filler
        Values of a term that only fills up an array, such that it has no energy. Columns that are not named are 0.
    graph_terms
        The attribute of a ``MoleculeGraph`` that has the section's terms.
    in_force_fields
        Whether SMIRNOFF force fields have the section. If not, only systems that were read from OpenMM have it.
    charge_source
        Whether the section does nothing but assign the charges of ``Electrostatics``.
    complete
        The bonds, angles or torsions of a molecule that must all have a term, by their name in a ``BondGraph``.
    version
        The version of the SMIRNOFF specification that a new section is written in.
    """

    tag: str
    columns: tuple[str, ...] = ()
    n_atoms: int = 1
    units: Mapping[str, str] = field(default_factory=dict)
    per_particle: bool = False
    settings: tuple[str, ...] = ()
    words: Mapping[str, Words] = field(default_factory=dict)
    static: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()
    whole_numbers: tuple[str, ...] = ()
    filler: Mapping[str, float] = field(default_factory=dict)
    graph_terms: str | None = None
    in_force_fields: bool = True
    charge_source: bool = False
    complete: str | None = None
    version: str = "0.3"

    def unit(self, attribute: str) -> str:
        """The MD unit of a column or setting."""
        return self.units.get(attribute) or UNITS.get(attribute, "dimensionless")


_TORSION = {
    "columns": ("k", "phase", "idivf"),
    "n_atoms": 4,
    "units": {"k": "kilojoule / mole"},
    "static": ("periodicity",),
    "trainable": ("k", "phase"),
    "whole_numbers": ("idivf", "periodicity", "default_idivf"),
    "filler": {"idivf": 1.0},
}

_RECORDS = (
    Section(
        "Constraints",
        columns=("distance",),
        n_atoms=2,
    ),
    Section(
        "Bonds",
        columns=("k", "length"),
        n_atoms=2,
        units={"k": "kilojoule / mole / nanometer**2"},
        trainable=("k", "length"),
        graph_terms="bonds",
        complete="bonds",
        version="0.4",
    ),
    Section(
        "Angles",
        columns=("k", "angle"),
        n_atoms=3,
        units={"k": "kilojoule / mole / radian**2"},
        trainable=("k", "angle"),
        graph_terms="angles",
        complete="angles",
    ),
    Section("ProperTorsions", graph_terms="propers", complete="propers", version="0.4", **_TORSION),  # type: ignore[arg-type]
    Section("ImproperTorsions", graph_terms="impropers", **_TORSION),  # type: ignore[arg-type]
    Section(
        "vdW",
        columns=("epsilon", "sigma"),
        per_particle=True,
        settings=("scale14", "cutoff", "switch_width"),
        words={
            "potential": Words(("Lennard-Jones-12-6",), ("Lennard-Jones-12-6",)),
            "combining_rules": Words(("Lorentz-Berthelot",), ("Lorentz-Berthelot",)),
            "periodic_method": Words(periodic=("cutoff", "Ewald3D")),
            "nonperiodic_method": Words(isolated=("no-cutoff",)),
        },
        trainable=("epsilon", "sigma", "rmin_half"),
        version="0.4",
    ),
    Section(
        "Electrostatics",
        columns=("charge",),
        per_particle=True,
        settings=("scale14", "cutoff"),
        words={
            # an interaction that is just cut off is not covered: OpenMM does not have it in a box either
            "periodic_potential": Words(periodic=("Ewald3D-ConductingBoundary", "reaction-field")),
            "nonperiodic_potential": Words(isolated=("Coulomb",)),
            "exception_potential": Words(("Coulomb",), ("Coulomb",)),
        },
        version="0.4",
    ),
    Section("LibraryCharges", columns=("charge",), trainable=("charge",), charge_source=True),
    Section("NeuralCharges", columns=("charge",), charge_source=True),
    Section("NAGLCharges", columns=("charge",), charge_source=True),
    Section("ChargeIncrementModel", columns=("charge",), trainable=("charge_increment",), charge_source=True),
    Section("ToolkitAM1BCC", columns=("charge",), charge_source=True),
    Section(
        "VirtualSites",
        columns=("distance", "outOfPlaneAngle", "inPlaneAngle"),
        n_atoms=4,
        static=("type", "parameter"),
        trainable=("distance", "outOfPlaneAngle", "inPlaneAngle", "charge_increment", "epsilon", "sigma", "rmin_half"),
    ),
    Section(
        "GBSA",
        columns=("radius", "scale"),
        per_particle=True,
        settings=("solvent_dielectric", "solute_dielectric", "surface_area_penalty", "solvent_radius"),
        words={"gb_model": Words(), "sa_model": Words()},
        trainable=("radius", "scale"),
    ),
    Section(
        "RBTorsions",
        columns=("c0", "c1", "c2", "c3", "c4", "c5"),
        n_atoms=4,
        units={f"c{n}": "kilojoule / mole" for n in range(6)},
        trainable=("c",),
        in_force_fields=False,
    ),
    Section(
        "NonbondedExceptions",
        columns=("charge_product", "sigma", "epsilon"),
        n_atoms=2,
        trainable=("charge_product", "sigma", "epsilon"),
        in_force_fields=False,
    ),
    Section(
        "NBFIX",
        columns=("epsilon", "sigma"),
        n_atoms=2,
        trainable=("epsilon", "sigma"),
        in_force_fields=False,
    ),
)

SECTIONS: dict[str, Section] = {section.tag: section for section in _RECORDS}
"""Every built-in section, by tag; charge sources are in SMIRNOFF's order of precedence.

``NeuralCharges`` is this package's own.
"""


def section_of(tag: str) -> Section:
    """The record of a section. That of a section of a user's functional form has only a name."""
    return SECTIONS.get(tag) or Section(tag)
