"""OpenMM: Systems written, kept up to date, and read."""

from openff_diffsystem.interop.openmm.from_openmm import from_openmm
from openff_diffsystem.interop.openmm.to_openmm import to_openmm
from openff_diffsystem.interop.openmm.update import update_openmm

__all__ = ["from_openmm", "to_openmm", "update_openmm"]
