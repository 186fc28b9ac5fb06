"""The parts of an OpenMM System, one file each: how forces, constraints and virtual sites are read and written.

``part.py`` says what each file contains.
"""

from openff_diffsystem.interop.openmm.forces import (
    bonded,
    cmap,
    constraints,
    custom,
    implicit_solvent,
    nonbonded,
    typed_lennard_jones,
    virtual_sites,
)
from openff_diffsystem.interop.openmm.forces.part import Part

READ: tuple[Part, ...] = (
    bonded,
    cmap,
    custom,
    nonbonded,
    typed_lennard_jones,
    implicit_solvent,
    constraints,
    virtual_sites,
)
"""In the order of the sections of theta. Implicit solvent and typed interactions use what ``nonbonded`` has read."""

WRITTEN: tuple[Part, ...] = (
    virtual_sites,
    constraints,
    nonbonded,
    typed_lennard_jones,
    bonded,
    cmap,
    custom,
    implicit_solvent,
)
"""In openff-interchange's order of forces."""
