"""What our handlers add to the stock ones: parameters as an array, and a traceable parameterize."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Unpack
from weakref import WeakKeyDictionary

from openff_diffsystem.handlers._arguments import MoleculeLike, Options

if TYPE_CHECKING:
    # all of these need jax, which is imported when it is first used
    import numpy as np
    from jax.typing import ArrayLike
    from jaxtyping import Array, Float, Int

    from openff_diffsystem.handlers._terms import Matched
    from openff_diffsystem.parameters.layout import ParameterLayout


class DifferentiableHandler:
    """Mixed into every handler class of this package.

    ``params`` is the handler's part of the flat vector of :class:`~openff_diffsystem.ForceFieldParameters`.
    """

    @property
    def params(self) -> Float[Array, " values"]:
        """The numbers of the section, ``(n_values,)``, MD units. Setting them updates the handler's parameters.

        Raises
        ------
        ParameterMismatchError
            When set to an array of another shape.
        NonFiniteParameterError
            When set to NaN or infinity.
        """
        import jax.numpy as jnp

        from openff_diffsystem.parameters.offxml import read_handlers

        return jnp.asarray(read_handlers([self])[1])

    @params.setter
    def params(self, values: Any) -> None:
        from openff_diffsystem.parameters.offxml import write_handlers

        write_handlers([self], values)

    @property
    def param_names(self) -> tuple[str, ...]:
        """One name per component of ``params``, ``ID/ATTRIBUTE``, or ``SMIRKS/ATTRIBUTE`` for parameters without id."""
        return tuple(label.split("/", 1)[1] for label in self._layout().labels)

    @property
    def param_units(self) -> tuple[str, ...]:
        """The unit of each component of ``params``."""
        return tuple(component.unit for component in self._layout().components)

    @property
    def smirks(self) -> tuple[str, ...]:
        """The SMIRKS of each parameter of the section, in order."""
        return tuple(parameter.smirks for parameter in self.parameters)  # type: ignore[attr-defined]

    def parameterize(
        self, molecule: MoleculeLike, **options: Unpack[Options]
    ) -> tuple[Float[Array, "terms columns"], Int[np.ndarray, "terms atoms"]]:
        """:meth:`partial_parameterize` with the handler's own parameters."""
        return self.partial_parameterize(self.params, molecule, **options)

    def partial_parameterize(
        self, params: Float[ArrayLike, " values"], molecule: MoleculeLike, **options: Unpack[Options]
    ) -> tuple[Float[Array, "terms columns"], Int[np.ndarray, "terms atoms"]]:
        """Parameters of every term of a molecule, as a function of ``params``.

        ``jax.vjp(lambda p: handler.partial_parameterize(p, molecule), handler.params, has_aux=True)`` gives the
        pullback; jit, jvp and higher derivatives work as well. SMIRKS are matched once per molecule, and not again when
        only numbers change.

        Parameters
        ----------
        params
            ``(n_values,)``, MD units, as in ``params``; may be traced.
        molecule
            A ``Molecule``, a one-molecule ``Topology``, or an RDKit molecule with explicit hydrogens.
        **options
            ``bonds``, for Constraints without a distance: the ``BondHandler`` that gives the distance.
            ``partial_bond_orders_from_molecules``, for Bonds and ProperTorsions that are interpolated.

        Returns
        -------
        params
            ``(n_terms, n_columns)``; the class docstring names the columns. ``(0, n_columns)`` if there are no terms.
        idxs
            ``(n_terms, n_atoms_per_term)``, int32, C-contiguous, not traced.

        Raises
        ------
        UnassignedParameterError
            If an atom, bond, angle or proper torsion has no parameter; the message names the atoms.
        ParameterMismatchError
            If ``params`` has the wrong shape.
        """
        import jax
        import jax.numpy as jnp

        from openff_diffsystem.exceptions import ParameterMismatchError

        matched = self._match(molecule, options)
        if jnp.shape(params) != (matched.map.n_parameters,):
            raise ParameterMismatchError(
                f"{self.TAGNAME}.params must have shape ({matched.map.n_parameters},), got {jnp.shape(params)}"  # type: ignore[attr-defined]
            )
        if not (isinstance(params, jax.Array) and jnp.issubdtype(params.dtype, jnp.floating)):
            # only where it does something: outside jit, jax traces each conversion for a tenth of the time of a VJP
            params = jnp.asarray(params, dtype=jnp.result_type(float, params))
        return matched.map(params), matched.indices

    def _layout(self) -> ParameterLayout:
        from openff_diffsystem.handlers._terms import handler_layout

        return handler_layout(self)

    def _match(self, molecule: MoleculeLike, options: Options) -> Matched:
        from openff_diffsystem.chemistry.molecule import as_molecule
        from openff_diffsystem.handlers._terms import match_molecule, matching_key

        molecule = as_molecule(molecule)
        cache = _CACHES.setdefault(self, OrderedDict())
        key = matching_key(self, molecule, options)
        if key is None:
            return match_molecule(self, molecule, options)
        if key not in cache:
            cache[key] = match_molecule(self, molecule, options)
            if len(cache) > _MAX_MOLECULES:
                cache.popitem(last=False)
        return cache[key]


_MAX_MOLECULES = 4096
_CACHES: WeakKeyDictionary[DifferentiableHandler, OrderedDict[Hashable, Matched]] = WeakKeyDictionary()
"""Kept outside the handlers, whose attributes are copied, pickled, hashed and shared with their stock views."""
