"""Losses for the optimisers of SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from openff_diffsystem.exceptions import ParameterMismatchError, PrecisionError
from openff_diffsystem.interop.scipy import value_and_grad


def torsion_fit(system):
    """A loss of the torsion constants of ethanol: energies of conformers against those of doubled constants."""
    chosen = system.force_field_parameters.select("ProperTorsions", "k*")
    potential = system.to_jax_potential()
    conformers = jnp.asarray(system.positions) + 0.01 * np.random.default_rng(0).normal(size=(12, system.n_atoms, 3))
    target = potential(conformers, chosen.replace(2 * chosen.vector))
    vector, unravel = chosen.to_vector()
    return vector, lambda v: jnp.mean((potential(conformers, unravel(v)) - target) ** 2)


def test_scipy_minimize(ethanol):
    vector, loss = torsion_fit(ethanol)
    fun = value_and_grad(loss)
    value, gradient = fun(np.asarray(vector))
    assert isinstance(value, float) and gradient.dtype == np.float64 and gradient.flags.writeable
    # forward differences with a step of 1e-6 on a quadratic: the curvature times the step
    error = check_grad(lambda x: fun(x)[0], lambda x: fun(x)[1], np.asarray(vector), epsilon=1e-6)
    assert error < 1e-4 * np.linalg.norm(gradient)
    fit = minimize(fun, np.asarray(vector), jac=True, method="L-BFGS-B")
    assert fit.fun < 1e-3 * value
    plain = value_and_grad(loss, jit=False)(np.asarray(vector))
    np.testing.assert_allclose(plain[1], gradient, rtol=0, atol=1e-12 * abs(gradient).max())


def test_scipy_in_single_precision(ethanol):
    """Rounded to float32 inside, float64 outside."""
    vector, loss = torsion_fit(ethanol)
    seen = []
    value, gradient = value_and_grad(lambda v: seen.append(v.dtype) or loss(v), dtype=np.float32)(np.asarray(vector))
    assert seen == [jnp.float32] and gradient.dtype == np.float64
    exact = value_and_grad(loss)(np.asarray(vector))
    assert value == pytest.approx(exact[0], rel=1e-3)
    with pytest.raises(ParameterMismatchError, match="scalar"):
        value_and_grad(lambda v: v)(np.asarray(vector))


def test_double_precision_is_not_lost_silently():
    with jax.enable_x64(False), pytest.raises(PrecisionError, match="loss"):
        value_and_grad(jnp.sum)
