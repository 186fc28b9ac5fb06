"""OpenMM: Systems written, kept up to date, and read."""

from openff_diffsystem.interop.openmm.read import from_openmm
from openff_diffsystem.interop.openmm.update import update_openmm
from openff_diffsystem.interop.openmm.write import to_openmm

__all__ = ["from_openmm", "to_openmm", "update_openmm"]
