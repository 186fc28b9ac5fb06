"""timemachine's constants and defaults."""

from __future__ import annotations

import math

ONE_4PI_EPS0 = 138.935456
"""timemachine's 1/(4 pi eps0), kJ mol-1 nm e-2. CODATA 2018, which this package uses elsewhere, is 1.2e-8 larger."""

CHARGE_SCALE = math.sqrt(ONE_4PI_EPS0)
"""timemachine multiplies charges by this, so that the product of two charges is an energy times a distance."""

BETA = 2.0
"""Ewald splitting parameter of timemachine's topologies, 1/nm."""

CUTOFF = 1.2
"""Nonbonded cutoff of timemachine's topologies, nm."""

SCALE_14 = 0.5
"""Fraction of 1-4 interactions, Coulomb and Lennard-Jones, that timemachine's topologies remove."""

PROTEIN_FF = "amber99sbildn"
WATER_FF = "amber14/tip3p"
"""The default force fields of OpenMM for the surroundings of a ligand."""
