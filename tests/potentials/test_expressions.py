"""OpenMM's expressions as jax functions, against OpenMM itself evaluating them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import pytest

from openff_diffsystem.exceptions import ExpressionError
from openff_diffsystem.potentials.expressions import Expression
from tests.openmm_reference import evaluate
from tests.openmm_systems import system_of

R, A, B = 0.7, 1.3, -0.4

EXPRESSIONS = (
    "a*r^2 - b",
    "-r^2",
    "-a*r^2/b",
    "2^-r*3",
    "2^3^r",
    "a-r-b/r/a",
    "a - -r",
    "(a*(r-b))^3 + r^(-3) + (-r)^2",
    "r^a",
    "r^2.5 + 1.5e-1*r + 2.*r + .5",
    "sqrt(r)+exp(-r)+log(r)",
    "sin(r)*cos(r)*tan(r)+sec(r)+csc(r)+cot(r)",
    "asin(r/2)+acos(r/3)+atan(r)+atan2(r,b)",
    "sinh(r)+cosh(r)+tanh(r)",
    "erf(r)+erfc(a*r)",
    "square(r)+cube(r)+recip(r)",
    "min(r,a)+2*max(r,b)",
    "abs(b*r)+abs(r)",
    "floor(10*r)*r+ceil(10*r)",
    "step(r-a)*r+step(a-r)*r^2+delta(r)+delta(0)",
    "select(r-r, a*r, r^3) + select(a, r^2, 0)",
    "select(step(r-1), sqrt(r-1), r)",
    "k*min(dtheta, 2*pi-dtheta)^2; dtheta = abs(r-a);pi = 3.141592653589793; k=2",
    "x*y; x = y + r ;y=a*r;",
    "r2*r; r2 = r*r",
    "a; a = r*b",
    "lambda*r; lambda = 0.5; unused = a",
    "is*if^-None + True; is = r; if = a; None = 007; True = b",
    "-r^-a^2/-b",
    "r^n; n = 3",
    "+".join(f"a*r^{power}" for power in range(1, 400)),
)


def by_openmm(text):
    """Value and derivative at R, from a bond of that length."""
    force = openmm.CustomBondForce(text)
    force.addPerBondParameter("a")
    force.addPerBondParameter("b")
    force.addBond(0, 1, [A, B])
    energy, forces = evaluate(system_of(force, n=2), np.array([[0, 0, 0], [R, 0, 0]]))
    return energy, -forces[1, 0]


def ours(text):
    expression = Expression(text)

    def value(r):
        given = {"r": r, "a": jnp.array([A]), "b": jnp.array(B)}
        return jnp.sum(expression(**{name: given[name] for name in expression.variables}))

    return value


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_value_and_derivative(text):
    energy, slope = by_openmm(text)
    value, derivative = jax.value_and_grad(ours(text))(jnp.array([R]))
    # OpenMM differentiates symbolically; both are in double precision, erf to 1e-14 or so
    assert float(value) == pytest.approx(energy, rel=1e-12, abs=1e-12)
    assert float(derivative[0]) == pytest.approx(slope, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(
    "text", ("r^2.5*exp(-a*r)", "x^3/y; x = r - b; y = cosh(r)", "select(step(r-1), sqrt(r-1), r^3)")
)
def test_second_derivatives_in_every_mode(text):
    value, step = ours(text), 1e-5
    by_differences = (jax.grad(value)(jnp.array([R + step])) - jax.grad(value)(jnp.array([R - step])))[0] / (2 * step)
    forward = jax.jacfwd(jax.grad(value))(jnp.array([R]))[0, 0]
    reverse = jax.jacrev(jax.grad(value))(jnp.array([R]))[0, 0]
    # central differences: the third derivative times the step squared, and rounding over the step
    assert float(forward) == pytest.approx(float(by_differences), rel=1e-8)
    assert float(reverse) == pytest.approx(float(forward), rel=1e-12)


def test_derivatives_in_what_is_not_the_first_variable():
    expression = Expression("a*r^2 + b")

    def value(a, b):
        return jnp.sum(expression(r=jnp.array([0.5, 2.0]), a=a, b=b))

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))(jnp.array([1.0, 2.0]), jnp.array(3.0))
    np.testing.assert_allclose(slopes[0], [0.25, 4.0], rtol=1e-15)
    assert float(slopes[1]) == 2.0
    mapped = jax.vmap(jax.grad(lambda a: value(a, 0.0)))(jnp.ones((3, 2)))
    np.testing.assert_allclose(mapped, [[0.25, 4.0]] * 3, rtol=1e-15)


@pytest.mark.parametrize("text", ("k*(r-0.1)^2+step(r)*erf(r)+2^0.5", "step(r-0.1)+0*k", "step(r)", "select(k-1,1,0)"))
def test_dtype_is_that_of_the_arguments(text):
    """Of the slope, too, where constants are all that is left."""
    expression = Expression(text)
    value = {name: jnp.ones(2, jnp.float32) for name in expression.variables}
    assert expression(**value).dtype == jnp.float32
    slopes = jax.grad(lambda given: jnp.sum(expression(**given)))(value)
    assert all(slope.dtype == jnp.float32 and np.isfinite(slope).all() for slope in slopes.values())


def test_any_name_can_be_a_variable():
    assert float(Expression("self*r + text")(self=2.0, r=3.0, text=1.0)) == 7.0


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("bessel(r)", "bessel is no function"),
        ("min(r)", "min takes 2 arguments, not 1"),
        ("r + ", "'the end' is not expected"),
        ("(r", "'the end' is not expected"),
        ("r r", "'r' is not expected"),
        ("r ? 1", "'\\?' has no meaning"),
        ("r; x", "'x' is no definition"),
        ("", "'the end' is not expected"),
        ("exp()", r"'\)' is not expected"),
        ("distance(p1, p2)", "distance is no function"),
        # Python's, not OpenMM's
        ("r ** 2", r"'\*' is not expected"),
        ("r // a", "'/' is not expected"),
        ("r @ a", "'@' has no meaning"),
        ("r < a", "'<' has no meaning"),
        ("+r", r"'\+' is not expected"),
        ("r, a", "',' is not expected"),
        ("a if r else b", "'if' is not expected"),
        ("not r", "'r' is not expected"),
        ("r.real", "'.' has no meaning"),
        ("'r'", '"\'" has no meaning'),
        ("1_000", "'_000' is not expected"),
        ("2j*r", "'j' is not expected"),
        ("0x1f", "'x1f' is not expected"),
        ("exp(r,)", r"'\)' is not expected"),
        ("exp(*r)", r"'\*' is not expected"),
        ("exp(^r)", r"'\^' is not expected"),
        ("select(r, a, b=r)", "'=' has no meaning"),
        ("(exp)(r)", r"'\(' is not expected"),
        ("2(r)", r"'\(' is not expected"),
        ("r)", r"'\)' is not expected"),
        ("; r", "'r' is no definition"),
    ),
)
def test_refused(text, message):
    with pytest.raises(ExpressionError, match=message):
        Expression(text)


@pytest.mark.parametrize(("opening", "closing"), (("(", ")"), ("-", ""), ("r^", ""), ("exp(", ")"), ("r+", "")))
def test_nesting_without_end_is_refused(opening, closing):
    with pytest.raises(ExpressionError, match="nests too deeply"):
        Expression(opening * 100_000 + "r" + closing * 100_000)


def test_functions_of_particles_are_variables():
    expression = Expression("k*(distance(p1, p3)-distance(p1,p2))^2", {"distance": 2})
    assert set(expression.variables) == {"k", "distance(p1,p3)", "distance(p1,p2)"}
    with pytest.raises(ExpressionError, match="distance takes particles"):
        Expression("distance(p1, 2)", {"distance": 2})
    with pytest.raises(ExpressionError, match="distance takes 2 arguments, not 3"):
        Expression("distance(p1, p2, p3)", {"distance": 2})
