"""Neural networks that give parameters: molecule graphs, models, and models together with theta."""

from openff_diffsystem.neural.compose import LambdaModule, lambda_module
from openff_diffsystem.neural.generic_force_field import generic_valence
from openff_diffsystem.neural.graph import MoleculeGraph
from openff_diffsystem.neural.linkage import Link, linkage
from openff_diffsystem.neural.models.espaloma import EspalomaCharges, espaloma_charges, load_espaloma
from openff_diffsystem.neural.models.valence import ValenceNetwork
from openff_diffsystem.neural.molecule_charges import replace_charges

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
