"""How nonbonded interactions of a periodic system are cut off: numbers fixed before anything is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from openff_diffsystem.chemistry.methods import PERIODIC, require
from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms import PairForm
from openff_diffsystem.stored_forms import forms_of

if TYPE_CHECKING:
    from openff_diffsystem.system import DiffSystem

REACTION_FIELD_DIELECTRIC = 78.3
"""OpenMM's default, which openff-interchange keeps."""

OPENMM_CUTOFF = 1.0
"""nm, OpenMM's default."""


class EngineOptions(NamedTuple):
    """What OpenMM has to be told and no SMIRNOFF file says; the defaults are what openff-interchange tells it.

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
        it is not.
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
        """Whether a list made for one serves the other: they are equal, but for 5 percent of the points of a mesh."""
        meshes = zip((self.mesh, self.dispersion_mesh), (other.mesh, other.dispersion_mesh), strict=True)
        return self._replace(mesh=None, dispersion_mesh=None) == other._replace(
            mesh=None, dispersion_mesh=None
        ) and all(np.allclose(a or 0, b or 0, rtol=0.05, atol=1.0) for a, b in meshes)

    @property
    def switch_width(self) -> float:
        """Over which distance interactions other than Coulomb ones are switched off, nm."""
        return self.cutoff - self.switch_distance


def splitting(cutoff: float, tolerance: float) -> float:
    """The Ewald splitting parameter of OpenMM, 1/nm: sqrt(-ln(2 tolerance)) / cutoff."""
    return float(np.sqrt(-np.log(2.0 * tolerance)) / cutoff)


def mesh_points(
    box_vectors: np.ndarray, alpha: float, tolerance: float, *, dispersion: bool = False
) -> tuple[int, int, int]:
    """The mesh of OpenMM for a box ``(3, 3)``, nm: 2 alpha L / (3 tolerance^(1/5)) points along a vector, at least 6.

    OpenMM User Guide, "Coulomb Interaction with Particle Mesh Ewald"; half as many for dispersion.
    """
    points = np.ceil((1.0 if dispersion else 2.0) * alpha * np.diag(box_vectors) / (3.0 * tolerance**0.2)).astype(int)
    a, b, c = np.maximum(points, 6).tolist()
    return a, b, c


def uses_mesh_for_dispersion(system: DiffSystem) -> bool:
    """Whether Lennard-Jones attraction goes on beyond the cutoff."""
    return system.methods.get("vdW", {}).get("periodic_method") == "Ewald3D"


def uses_reaction_field(system: DiffSystem) -> bool:
    """Whether Coulomb interactions end at the cutoff."""
    return system.methods.get("Electrostatics", {}).get("periodic_potential") == "reaction-field"


def cutoff_scheme(system: DiffSystem, theta: Any, box_vectors: np.ndarray, ewald_tolerance: float) -> CutoffScheme:
    """The scheme that openff-interchange's OpenMM export would choose for a system in a box.

    Cutoff and switch width are fixed with the neighbour list: the energy is no function of them. A registered pair form
    takes the place of vdW, with its own cutoff and switch width. With vdW by particle
    mesh, or no vdW at all, the export leaves the cutoff of the force field aside and takes OpenMM's, 1 nm, without
    a switch.

    Raises
    ------
    UnsupportedForceFieldError
        If a method is not covered, or two cutoffs differ where they must be equal.
    """
    require(system.methods, PERIODIC)
    if "GBSA" in system.system_layout.sections:
        raise UnsupportedForceFieldError("GBSA is an implicit solvent: it is not covered in a periodic system")
    settings = system.system_layout.settings
    values = system.parameterize(theta)
    vdw = "vdW"
    for form in forms_of(system):
        if not isinstance(form, PairForm):
            continue
        vdw = form.section
        require(system.methods, {(vdw, "periodic_method"): ("cutoff",)})
        if (vdw, "cutoff") not in settings:
            raise UnsupportedForceFieldError(
                f"{vdw} has no attribute 'cutoff', which tells where its interactions end in a box"
            )
    cutoffs = {
        section: float(values.setting(section, "cutoff"))
        for section in (vdw, "Electrostatics")
        if (section, "cutoff") in settings
    }
    if not cutoffs:
        raise UnsupportedForceFieldError("the force field has no nonbonded section with a cutoff")
    on_mesh, reaction_field = uses_mesh_for_dispersion(system), uses_reaction_field(system)
    options = system.engine_options
    cutoff = options.mesh_cutoff if on_mesh else cutoffs.get(vdw, OPENMM_CUTOFF)
    has_switch = (vdw, "switch_width") in settings and not on_mesh
    width = float(values.setting(vdw, "switch_width")) if has_switch else 0.0
    if width > cutoff:
        raise UnsupportedForceFieldError(
            f"the switch width of {vdw}, {width} nm, is larger than its cutoff, {cutoff} nm"
        )
    if reaction_field:
        if on_mesh or abs(cutoffs["Electrostatics"] - cutoff) > 1e-9:
            raise UnsupportedForceFieldError(
                f"with a reaction field {vdw} must end at the same cutoff; the cutoffs are {cutoffs}"
                + (" and vdW asks for Ewald3D" if on_mesh else "")
            )
        return CutoffScheme(
            cutoff,
            cutoff - width,
            dispersion_correction=options.dispersion_correction,
            dielectric=options.reaction_field_dielectric,
        )
    if on_mesh and "Electrostatics" not in system.methods:
        raise UnsupportedForceFieldError("vdW with periodic_method='Ewald3D' needs an Electrostatics section beside it")
    alpha = splitting(cutoff, ewald_tolerance)
    mesh = mesh_points(box_vectors, alpha, ewald_tolerance)
    coarse = mesh_points(box_vectors, alpha, ewald_tolerance, dispersion=True) if on_mesh else None
    return CutoffScheme(cutoff, cutoff - width, alpha, mesh, coarse, options.dispersion_correction)
