"""Networks upstream of the force field: molecule graphs, models that emit parameters, and models with theta."""

from openff_diffsystem.neural.charges import EspalomaCharges, espaloma_charges, load_espaloma
from openff_diffsystem.neural.generic_force_field import generic_valence
from openff_diffsystem.neural.graph import MoleculeGraph
from openff_diffsystem.neural.linkage import Link, linkage
from openff_diffsystem.neural.molecule_charges import replace_charges
from openff_diffsystem.neural.parameterize import LambdaModule, lambda_module
from openff_diffsystem.neural.valence import ValenceNetwork

__all__ = [
    "EspalomaCharges",
    "LambdaModule",
    "Link",
    "MoleculeGraph",
    "ValenceNetwork",
    "espaloma_charges",
    "generic_valence",
    "lambda_module",
    "linkage",
    "load_espaloma",
    "replace_charges",
]
