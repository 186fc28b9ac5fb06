"""How nonbonded interactions of a periodic system are cut off: numbers fixed before anything is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from openff_diffsystem.exceptions import UnsupportedForceFieldError

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

REACTION_FIELD_DIELECTRIC = 78.3
"""OpenMM's default, which openff-interchange keeps."""


class CutoffScheme(NamedTuple):
    """How interactions end at the cutoff. Static.

    Attributes
    ----------
    cutoff
        nm.
    switch_distance
        Where the Lennard-Jones interaction begins to be switched off, nm; the cutoff if it is not.
    alpha
        Ewald splitting parameter, 1/nm; ``None`` for the reaction field.
    mesh
        Points of the particle mesh along each box vector; ``None`` for the reaction field.
    """

    cutoff: float
    switch_distance: float
    alpha: float | None = None
    mesh: tuple[int, int, int] | None = None

    @property
    def switch_width(self) -> float:
        """Over which distance the Lennard-Jones interaction is switched off, nm."""
        return self.cutoff - self.switch_distance


def splitting(cutoff: float, tolerance: float) -> float:
    """The Ewald splitting parameter of OpenMM, 1/nm: sqrt(-ln(2 tolerance)) / cutoff."""
    return float(np.sqrt(-np.log(2.0 * tolerance)) / cutoff)


def mesh_points(box_vectors: np.ndarray, alpha: float, tolerance: float) -> tuple[int, int, int]:
    """The mesh of OpenMM for a box ``(3, 3)``, nm: 2 alpha L / (3 tolerance^(1/5)) points along a vector, at least 6.

    OpenMM User Guide, "Coulomb Interaction with Particle Mesh Ewald".
    """
    points = np.ceil(2.0 * alpha * np.diag(box_vectors) / (3.0 * tolerance**0.2)).astype(int)
    a, b, c = np.maximum(points, 6).tolist()
    return a, b, c


def cutoff_scheme(system: DiffSystem, theta: Any, box_vectors: np.ndarray, ewald_tolerance: float) -> CutoffScheme:
    """The scheme that openff-interchange's OpenMM export would choose for a system in a box.

    Cutoff and switch width are fixed with the neighbour list: the energy is no function of them.

    Raises
    ------
    UnsupportedForceFieldError
        If a method is not covered, or two cutoffs differ where they must be equal.
    """
    for section in system.methods:
        for name, value in system.methods[section].items():
            if value not in _COVERED.get((section, name), (value,)):
                raise UnsupportedForceFieldError(
                    f"{section} with {name}={value!r} is not covered in a periodic system; "
                    f"covered are {', '.join(map(repr, _COVERED[section, name]))}"
                )
    if "GBSA" in system.system_layout.sections:
        raise UnsupportedForceFieldError("GBSA is an implicit solvent: it is not covered in a periodic system")
    values = system.parameterize(theta)
    cutoffs = {
        section: float(values.setting(section, "cutoff"))
        for section in ("vdW", "Electrostatics")
        if (section, "cutoff") in system.system_layout.settings
    }
    if not cutoffs:
        raise UnsupportedForceFieldError("the force field has no nonbonded section with a cutoff")
    cutoff = cutoffs.get("vdW", cutoffs.get("Electrostatics", 0.0))
    width = float(values.setting("vdW", "switch_width")) if ("vdW", "switch_width") in values.layout.settings else 0.0
    if width > cutoff:
        raise UnsupportedForceFieldError(f"the switch width of vdW, {width} nm, is larger than its cutoff, {cutoff} nm")
    if system.methods.get("Electrostatics", {}).get("periodic_potential") == "reaction-field":
        if abs(cutoffs["Electrostatics"] - cutoff) > 1e-9:
            raise UnsupportedForceFieldError(f"with a reaction field both cutoffs must be equal; they are {cutoffs}")
        return CutoffScheme(cutoff, cutoff - width)
    alpha = splitting(cutoff, ewald_tolerance)
    return CutoffScheme(cutoff, cutoff - width, alpha, mesh_points(box_vectors, alpha, ewald_tolerance))


_COVERED = {
    ("vdW", "periodic_method"): ("cutoff",),
    ("Electrostatics", "periodic_potential"): ("Ewald3D-ConductingBoundary", "reaction-field"),
}
