"""How nonbonded interactions of a periodic system end at the cutoff: chosen before anything is compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from openff_diffsystem.exceptions import UnsupportedForceFieldError
from openff_diffsystem.forms.form import PairForm
from openff_diffsystem.forms.methods import PAIR_FORM_WORDS, PERIODIC, covered_of, require
from openff_diffsystem.potentials.periodic.scheme import OPENMM_CUTOFF, CutoffScheme, mesh_points, splitting
from openff_diffsystem.system.data import SystemData


def uses_mesh_for_dispersion(system: SystemData) -> bool:
    """Whether Lennard-Jones attraction continues beyond the cutoff, by particle-mesh Ewald."""
    return system.methods.get("vdW", {}).get("periodic_method") == "Ewald3D"


def uses_reaction_field(system: SystemData) -> bool:
    """Whether Coulomb interactions end at the cutoff, with a reaction field."""
    return system.methods.get("Electrostatics", {}).get("periodic_potential") == "reaction-field"


def cutoff_scheme(
    system: SystemData, theta: object, box_vectors: Float[np.ndarray, "3 3"], ewald_tolerance: float
) -> CutoffScheme:
    """The scheme that openff-interchange's OpenMM export would choose for a system in a box.

    Cutoff and switch width are fixed when a neighbour list is built: the energy is not differentiated with respect
    to them. A registered pair form takes the place of vdW, with its own cutoff and switch width. If vdW is by particle
    mesh, or there is no vdW at all, the export ignores the cutoff of the force field and takes OpenMM's, 1 nm, without
    a switch.

    Raises
    ------
    UnsupportedForceFieldError
        If a method is not covered, or two cutoffs that must be equal differ.
    """
    require(system.methods, PERIODIC)
    if "GBSA" in system.system_layout.sections:
        raise UnsupportedForceFieldError("GBSA is an implicit solvent: it is not covered in a periodic system")
    settings = system.system_layout.settings
    values = system.parameterize(theta)
    vdw = "vdW"
    for form in system.forms.values():
        if not isinstance(form, PairForm):
            continue
        vdw = form.section
        require(system.methods, covered_of(vdw, PAIR_FORM_WORDS, "periodic"))
        if (vdw, "cutoff") not in settings:
            raise UnsupportedForceFieldError(
                f"{vdw} has no attribute 'cutoff', the distance at which its interactions end in a box"
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
