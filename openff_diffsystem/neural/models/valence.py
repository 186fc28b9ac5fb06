"""A graph network that emits valence parameters.

The architecture is that of espaloma (Wang et al., Chem. Sci. 13, 12016 (2022)): message passing gives every atom a
vector, and the numbers of a term follow from the vectors of its atoms by a sum over the orders in which the term can be
read (Janossy pooling).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from openff_diffsystem._jax.types import AnyArray
from openff_diffsystem.exceptions import UnassignedParameterError
from openff_diffsystem.neural.graph import (
    ELEMENT_NUMBERS,
    ELEMENTS,
    HYBRIDISATIONS,
    RING_SIZES,
    MoleculeGraph,
    atom_outside,
    symbol_of,
)
from openff_diffsystem.neural.symmetry import refine

ATOM_INPUTS = (*ELEMENTS, "aromatic", *(f"ring{size}" for size in RING_SIZES))
BOND_INPUTS = ("in_ring", "aromatic")
"""Features of an atom and of a bond that the network reads, besides degree and hybridisation. Formal charges and bond
orders are left out: they depend on which oxygen of a carboxylate, a nitro group or a phosphate is drawn with the
charge."""

BOND_K = 240_000.0
ANGLE_K = 640.0
TORSION_K = 2.0
IMPROPER_K = 10.0
"""kJ/mol/nm2, kJ/mol/rad2, kJ/mol and kJ/mol: the outputs of the network are multiples of these. The first three are
rounded medians over the rows of Sage 2.2.1 (for proper torsions, of the absolute value of k); its few improper torsions
reach 40."""

TEXTBOOK_ANGLES = {"SP": np.deg2rad(175.0), "SP2": np.deg2rad(120.0)}
TETRAHEDRAL = np.arccos(-1 / 3)
"""The value where an angle starts, by the hybridisation of its centre. A sigmoid cannot reach 180 degrees itself."""

_UNIT = float(np.log(np.e - 1))
"""The softplus of this is one."""


def _affine(layer: eqx.nn.Linear, x: Float[Array, "rows inputs"]) -> Float[Array, "rows outputs"]:
    """A layer applied to rows, ``(n, n_in)``."""
    found = x @ layer.weight.T
    return found if layer.bias is None else found + layer.bias


class Perceptron(eqx.Module):
    """One hidden layer. All leaves are arrays, so that ``jax.grad`` accepts it as it is."""

    hidden: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, n_in: int, width: int, n_out: int, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key)
        self.hidden = eqx.nn.Linear(n_in, width, key=keys[0])
        self.out = eqx.nn.Linear(width, n_out, use_bias=False, key=keys[1])

    def __call__(self, orders: list[list[Float[Array, "terms width"]]]) -> Float[Array, "terms outputs"]:
        """A sum over orders of reading, each a list of ``(n, width)`` by atom; returns ``(n, n_out)``."""
        seen = (jax.nn.silu(_affine(self.hidden, jnp.concatenate(order, axis=1))) for order in orders)
        return _affine(self.out, jnp.sum(jnp.stack(list(seen)), axis=0))


class Convolution(eqx.Module):
    """An atom's new vector from its own, and the mean over its neighbours and bonds (GraphSAGE with bond features)."""

    own: eqx.nn.Linear
    neighbour: eqx.nn.Linear
    between: eqx.nn.Linear

    def __init__(self, width: int, key: PRNGKeyArray) -> None:
        keys = jax.random.split(key, 3)
        self.own = eqx.nn.Linear(width, width, key=keys[0])
        self.neighbour = eqx.nn.Linear(width, width, use_bias=False, key=keys[1])
        self.between = eqx.nn.Linear(len(BOND_INPUTS), width, use_bias=False, key=keys[2])

    def __call__(
        self, atoms: Float[Array, "atoms width"], bonds: Float[Array, "bonds bond_inputs"], graph: MoleculeGraph
    ) -> Float[Array, "atoms width"]:
        """``(n_atoms, width)`` from atoms ``(n_atoms, width)`` and bond features ``(n_bonds, n)``."""
        a, b = graph.bonds[:, 0], graph.bonds[:, 1]
        across = _affine(self.between, bonds)
        reached = _affine(self.neighbour, atoms)
        messages = jnp.concatenate([reached[a] + across, reached[b] + across])
        total = jax.ops.segment_sum(messages, jnp.concatenate([b, a]), graph.n_atoms)
        mean = total / jnp.maximum(jnp.asarray(graph.node("degree"), dtype=atoms.dtype), 1)[:, None]
        return atoms + jax.nn.silu(_affine(self.own, atoms) + mean)


class ValenceNetwork(eqx.Module):
    """Parameters of the bonds, angles and torsions of any molecule, from its graph.

    The numbers do not depend on the order of atoms, on the direction in which a term is read, or on which oxygen of a
    carboxylate is drawn with the charge. Every leaf is an array, so jax.grad and optimisers accept it as it is.
    Molecules are made of ``ELEMENTS``; monatomic ions may be of any element.

    Parameters
    ----------
    width, n_layers
        Length of an atom's vector, and how many bonds away from it the network looks.
    key
        Random key for the initial weights.
    spread
        Scale of the initial weights of the last layers. Zero gives textbook values: sums of covalent radii, angles by
        hybridisation, one k for all bonds, one for all angles, no torsions.
    """

    embedding: eqx.nn.Linear
    convolutions: tuple[Convolution, ...]
    bond: Perceptron
    angle: Perceptron
    proper: Perceptron
    improper: Perceptron

    def __init__(self, *, width: int = 32, n_layers: int = 3, key: PRNGKeyArray, spread: float = 0.1) -> None:
        keys = jax.random.split(key, n_layers + 5)
        n_inputs = len(ATOM_INPUTS) + 1 + len(HYBRIDISATIONS)
        self.embedding = eqx.nn.Linear(n_inputs, width, key=keys[0])
        self.convolutions = tuple(Convolution(width, one) for one in keys[5:])
        heads = (
            Perceptron(n_atoms * width, width, n_out, one)
            for n_atoms, n_out, one in zip((2, 3, 4, 4), (2, 2, 6, 6), keys[1:5], strict=True)
        )
        self.bond, self.angle, self.proper, self.improper = (
            eqx.tree_at(lambda head: head.out.weight, head, head.out.weight * spread) for head in heads
        )

    def atoms(self, graph: MoleculeGraph) -> Float[Array, "atoms width"]:
        """The vector of each atom, ``(n_atoms, width)``.

        Raises
        ------
        UnassignedParameterError
            If a bonded atom is of no element in ``ELEMENTS``; not where the graph is traced.
        """
        _check_elements(graph)
        dtype = self.embedding.weight.dtype
        found = jnp.asarray(_atom_inputs(graph), dtype=dtype)
        bonds = jnp.asarray(graph.bond(*BOND_INPUTS), dtype=dtype)
        found = jax.nn.silu(_affine(self.embedding, found))
        for convolution in self.convolutions:
            found = convolution(found, bonds, graph)
        return found

    def __call__(self, graph: MoleculeGraph) -> dict[str, dict[str, Float[Array, "terms ..."]]]:
        """Parameters by section and column, one row per term of the graph.

        Returns
        -------
        dict
            ``Bonds``: ``k`` (kJ/mol/nm2) and ``length`` (nm), ``(n_bonds,)``, both positive.
            ``Angles``: ``k`` (kJ/mol/rad2), positive, and ``angle`` (rad), between 0 and pi, ``(n_angles,)``.
            ``ProperTorsions`` and ``ImproperTorsions``: ``k`` (kJ/mol), of either sign, for periodicities 1 to 6 with a
            phase of zero, ``(n, 6)``. The three rows of an improper torsion share its numbers (``idivf`` 3). A proper
            torsion about an sp atom has zeros: its dihedral is undefined where the atom is straight.

        Raises
        ------
        UnassignedParameterError
            If a bonded atom is of no element in ``ELEMENTS``; not where the graph is traced.
        """
        vectors = self.atoms(graph)
        dtype = vectors.dtype
        radius = jnp.asarray(graph.node("covalent_radius"), dtype=dtype)

        i, j = graph.bonds.T
        a, b = vectors[i], vectors[j]
        bond = self.bond([[a, b], [b, a]])

        i, j, k = graph.angles.T
        a, b, c = vectors[i], vectors[j], vectors[k]
        angle = self.angle([[a, b, c], [c, b, a]])
        start = jnp.asarray(_textbook_angles(graph)[j], dtype=dtype)

        i, j, k, m = graph.propers.T
        a, b, c, d = vectors[i], vectors[j], vectors[k], vectors[m]
        proper = self.proper([[a, b, c, d], [d, c, b, a]])
        straight = jnp.asarray(graph.node("SP"), dtype=dtype)
        bent = (1 - straight[j]) * (1 - straight[k])

        i, j, k, m = graph.impropers.T
        a, b, c, d = vectors[i], vectors[j], vectors[k], vectors[m]
        # three cyclic permutations around the centre and their mirror images: which of the
        # two cycles the atom order gives is arbitrary
        improper = self.improper(
            [[x, b, y, z] for x, y, z in ((a, c, d), (c, d, a), (d, a, c), (a, d, c), (d, c, a), (c, a, d))]
        )

        radii = radius[graph.bonds[:, 0]] + radius[graph.bonds[:, 1]]
        return {
            "Bonds": {"k": BOND_K * _positive(bond[:, 0]), "length": radii * _positive(bond[:, 1])},
            "Angles": {"k": ANGLE_K * _positive(angle[:, 0]), "angle": jnp.pi * jax.nn.sigmoid(start + angle[:, 1])},
            "ProperTorsions": {"k": TORSION_K * bent[:, None] * proper},
            "ImproperTorsions": {"k": IMPROPER_K * improper},
        }

    def atom_classes(self, graph: MoleculeGraph) -> Int[np.ndarray, " atoms"]:
        """Numbers that are equal for atoms the network cannot tell apart, whatever its weights, ``(n_atoms,)``."""
        _check_elements(graph)
        return refine(graph, _atom_inputs(graph), graph.bond(*BOND_INPUTS), rounds=len(self.convolutions))


def _check_elements(graph: MoleculeGraph) -> None:
    """Raise for a bonded atom of an unknown element. Monatomic ions have no terms, so their element is irrelevant."""
    if strange := atom_outside(graph, ELEMENT_NUMBERS, bonded=True):
        raise UnassignedParameterError(
            f"ValenceNetwork does not know the element of atom {strange[0]}, {symbol_of(strange[1])}; it knows "
            f"{', '.join(ELEMENTS)}. Leave its molecule out with lambda_module(..., molecules=...)"
        )


def _atom_inputs(graph: MoleculeGraph) -> Float[AnyArray, "atoms inputs"]:
    """What the network reads of each atom, ``(n_atoms, n_inputs)``.

    Hybridisations of terminal atoms are left out: they depend only on where charges are drawn.
    """
    array = jnp if isinstance(graph.nodes, jax.Array) else np
    degree = graph.node("degree")[:, None]
    inner = graph.node(*HYBRIDISATIONS) * (degree > 1)
    return array.concatenate([graph.node(*ATOM_INPUTS), degree / 4, inner], axis=1)


def _positive(x: Float[Array, " terms"]) -> Float[Array, " terms"]:
    """A positive function of x that is one at zero."""
    return jax.nn.softplus(x + _UNIT)


def _textbook_angles(graph: MoleculeGraph) -> Float[Array, " atoms"]:
    """Where the angle around each atom starts, as the argument of the sigmoid, ``(n_atoms,)``."""
    start = TETRAHEDRAL
    for name, value in TEXTBOOK_ANGLES.items():
        start = jnp.where(jnp.asarray(graph.node(name)) > 0, value, start)
    return jax.scipy.special.logit(start / jnp.pi)
