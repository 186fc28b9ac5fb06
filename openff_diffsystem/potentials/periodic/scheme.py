"""How interactions end in a box: numbers fixed before anything is compiled, and the switch before the cutoff."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

REACTION_FIELD_DIELECTRIC = 78.3
"""OpenMM's default, which openff-interchange keeps."""


OPENMM_CUTOFF = 1.0
"""nm, OpenMM's default."""


class EngineOptions(NamedTuple):
    """Options that OpenMM needs and no SMIRNOFF file has. The defaults are those of openff-interchange.

    Attributes
    ----------
    ewald_tolerance
        The error tolerance that decides splitting parameter and mesh.
    reaction_field_dielectric
        Relative permittivity beyond the cutoff.
    dispersion_correction
        Whether Lennard-Jones interactions beyond the cutoff are averaged.
    mesh_cutoff
        Where real space ends if Lennard-Jones interactions are on a mesh, nm.
    constrained_forces
        Whether bonds and angles that constraints fix always count.
    """

    ewald_tolerance: float = 1e-4
    reaction_field_dielectric: float = REACTION_FIELD_DIELECTRIC
    dispersion_correction: bool = True
    mesh_cutoff: float = OPENMM_CUTOFF
    constrained_forces: bool = False


class CutoffScheme(NamedTuple):
    """How interactions end at the cutoff. Static.

    Attributes
    ----------
    cutoff
        nm.
    switch_distance
        Where the Lennard-Jones interaction, or the pair form in its place, begins to be switched off, nm; the cutoff if
        it is not switched off.
    alpha
        Ewald splitting parameter, 1/nm; ``None`` for the reaction field.
    mesh
        Points of the particle mesh along each box vector; ``None`` for the reaction field.
    dispersion_mesh
        Points of the mesh for the attraction between Lennard-Jones particles; ``None`` where that ends at the cutoff.
    dispersion_correction
        Whether those interactions are averaged beyond the cutoff.
    dielectric
        Relative permittivity beyond the cutoff of the reaction field.
    """

    cutoff: float
    switch_distance: float
    alpha: float | None = None
    mesh: tuple[int, int, int] | None = None
    dispersion_mesh: tuple[int, int, int] | None = None
    dispersion_correction: bool = True
    dielectric: float = REACTION_FIELD_DIELECTRIC

    def fits(self, other: CutoffScheme) -> bool:
        """Whether a list for one scheme can be used for the other: equal, but for 5 percent of the points of a mesh."""
        meshes = zip((self.mesh, self.dispersion_mesh), (other.mesh, other.dispersion_mesh), strict=True)
        return self._replace(mesh=None, dispersion_mesh=None) == other._replace(
            mesh=None, dispersion_mesh=None
        ) and all(np.allclose(a or 0, b or 0, rtol=0.05, atol=1.0) for a, b in meshes)

    @property
    def switch_width(self) -> float:
        """The distance over which interactions other than Coulomb are switched off, nm."""
        return self.cutoff - self.switch_distance


def splitting(cutoff: float, tolerance: float) -> float:
    """The Ewald splitting parameter of OpenMM, 1/nm: sqrt(-ln(2 tolerance)) / cutoff."""
    return float(np.sqrt(-np.log(2.0 * tolerance)) / cutoff)


def mesh_points(
    box_vectors: Float[np.ndarray, "3 3"], alpha: float, tolerance: float, *, dispersion: bool = False
) -> tuple[int, int, int]:
    """The mesh of OpenMM for a box ``(3, 3)``, nm: 2 alpha L / (3 tolerance^(1/5)) points along a vector, at least 6.

    OpenMM User Guide, "Coulomb Interaction with Particle Mesh Ewald"; half as many for dispersion.
    """
    points = np.ceil((1.0 if dispersion else 2.0) * alpha * np.diag(box_vectors) / (3.0 * tolerance**0.2)).astype(int)
    a, b, c = np.maximum(points, 6).tolist()
    return a, b, c


def switching(r: Float[Array, "*pairs"], scheme: CutoffScheme) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"]]:
    """OpenMM's switching function, 1 - 10 t^3 + 15 t^4 - 6 t^5, and its derivative in r."""
    width = scheme.cutoff - scheme.switch_distance
    t = jnp.clip((r - scheme.switch_distance) / width, 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t * t), -30.0 * (t * (1.0 - t)) ** 2 / width
