"""The plugin: SMIRNOFF parameter handlers that are differentiable and take the place of the stock ones.

The toolkit loads this module in ``ForceField(..., load_plugins=True)``. It does not import jax.
"""

from openff_diffsystem.handlers._classes import (
    HANDLERS,
    AngleHandler,
    BondHandler,
    ChargeIncrementModelHandler,
    ConstraintHandler,
    ElectrostaticsHandler,
    GBSAHandler,
    ImproperTorsionHandler,
    LibraryChargeHandler,
    NAGLChargesHandler,
    ProperTorsionHandler,
    ToolkitAM1BCCHandler,
    VirtualSiteHandler,
    vdWHandler,
)
from openff_diffsystem.handlers._neural import NeuralChargesHandler
from openff_diffsystem.handlers._swap import install

__all__ = [
    "HANDLERS",
    "AngleHandler",
    "BondHandler",
    "ChargeIncrementModelHandler",
    "ConstraintHandler",
    "ElectrostaticsHandler",
    "GBSAHandler",
    "ImproperTorsionHandler",
    "LibraryChargeHandler",
    "NAGLChargesHandler",
    "NeuralChargesHandler",
    "ProperTorsionHandler",
    "ToolkitAM1BCCHandler",
    "VirtualSiteHandler",
    "vdWHandler",
]

install()
