"""timemachine (https://github.com/proteneer/timemachine): its handles, files and arrays from a SMIRNOFF force field.

timemachine itself is needed by :func:`to_forcefield` alone. Conventions are timemachine's: nm, kJ/mol and radian;
charges times the square root of 138.935456; sigma/2 and the square root of epsilon per atom; improper torsions with the
central atom second. See ``docs/timemachine.md``.
"""

from openff_diffsystem.interop.timemachine.arrays import (
    NonbondedArrays,
    PairListArrays,
    harmonic_angles,
    harmonic_bonds,
    improper_torsions,
    nonbonded,
    nonbonded_pair_list,
    periodic_torsions,
    proper_torsions,
)
from openff_diffsystem.interop.timemachine.conventions import ONE_4PI_EPS0
from openff_diffsystem.interop.timemachine.files.file_format import ForceFieldFile, Section
from openff_diffsystem.interop.timemachine.files.smirnoff import read_timemachine, to_timemachine
from openff_diffsystem.interop.timemachine.forcefield import Handles, to_forcefield
from openff_diffsystem.interop.timemachine.handles.atom_handles import (
    LennardJonesHandler,
    LennardJonesIntraHandler,
    LennardJonesSolventHandler,
    SimpleChargeHandler,
    SimpleChargeIntraHandler,
    SimpleChargeSolventHandler,
)
from openff_diffsystem.interop.timemachine.handles.bonded import (
    HarmonicAngleHandler,
    HarmonicBondHandler,
    ImproperTorsionHandler,
    ProperTorsionHandler,
)
from openff_diffsystem.interop.timemachine.handles.charge_handles import (
    AM1BCCCCCHandler,
    AM1BCCCCCIntraHandler,
    AM1BCCCCCSolventHandler,
    AM1BCCHandler,
    AM1BCCIntraHandler,
    AM1BCCSolventHandler,
    AM1CCCHandler,
    AM1CCCIntraHandler,
    AM1CCCSolventHandler,
    PrecomputedChargeHandler,
    PrecomputedChargeIntraHandler,
)
from openff_diffsystem.interop.timemachine.handles.charge_sources import (
    ForceFieldChargeHandler,
    FunctionChargeHandler,
    NeuralChargeHandler,
    ToolkitCharges,
)
from openff_diffsystem.interop.timemachine.pairs import (
    generate_exclusion_idxs,
    intramolecular_pairs,
    parameterize_nonbonded_pairlist,
)

__all__ = [
    "ONE_4PI_EPS0",
    "AM1BCCCCCHandler",
    "AM1BCCCCCIntraHandler",
    "AM1BCCCCCSolventHandler",
    "AM1BCCHandler",
    "AM1BCCIntraHandler",
    "AM1BCCSolventHandler",
    "AM1CCCHandler",
    "AM1CCCIntraHandler",
    "AM1CCCSolventHandler",
    "ForceFieldChargeHandler",
    "ForceFieldFile",
    "FunctionChargeHandler",
    "Handles",
    "HarmonicAngleHandler",
    "HarmonicBondHandler",
    "ImproperTorsionHandler",
    "LennardJonesHandler",
    "LennardJonesIntraHandler",
    "LennardJonesSolventHandler",
    "NeuralChargeHandler",
    "NonbondedArrays",
    "PairListArrays",
    "PrecomputedChargeHandler",
    "PrecomputedChargeIntraHandler",
    "ProperTorsionHandler",
    "Section",
    "SimpleChargeHandler",
    "SimpleChargeIntraHandler",
    "SimpleChargeSolventHandler",
    "ToolkitCharges",
    "generate_exclusion_idxs",
    "harmonic_angles",
    "harmonic_bonds",
    "improper_torsions",
    "intramolecular_pairs",
    "nonbonded",
    "nonbonded_pair_list",
    "parameterize_nonbonded_pairlist",
    "periodic_torsions",
    "proper_torsions",
    "read_timemachine",
    "to_forcefield",
    "to_timemachine",
]
