"""OpenMM's algebraic expressions, such as those of its custom forces, as functions of jax arrays."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from openff_diffsystem.exceptions import ExpressionError

_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "sqrt": (1, jnp.sqrt),
    "exp": (1, jnp.exp),
    "log": (1, jnp.log),
    "sin": (1, jnp.sin),
    "cos": (1, jnp.cos),
    "tan": (1, jnp.tan),
    "sec": (1, lambda x: 1.0 / jnp.cos(x)),
    "csc": (1, lambda x: 1.0 / jnp.sin(x)),
    "cot": (1, lambda x: 1.0 / jnp.tan(x)),
    "asin": (1, jnp.arcsin),
    "acos": (1, jnp.arccos),
    "atan": (1, jnp.arctan),
    "atan2": (2, jnp.arctan2),
    "sinh": (1, jnp.sinh),
    "cosh": (1, jnp.cosh),
    "tanh": (1, jnp.tanh),
    "erf": (1, jax.scipy.special.erf),
    "erfc": (1, jax.scipy.special.erfc),
    "step": (1, lambda x: jnp.where(x >= 0.0, 1.0, 0.0)),
    "delta": (1, lambda x: jnp.where(x == 0.0, 1.0, 0.0)),
    "square": (1, lambda x: x * x),
    "cube": (1, lambda x: x * x * x),
    "recip": (1, lambda x: 1.0 / x),
    "min": (2, jnp.minimum),
    "max": (2, jnp.maximum),
    "abs": (1, jnp.abs),
    "floor": (1, jnp.floor),
    "ceil": (1, jnp.ceil),
    "select": (3, lambda condition, a, b: jnp.where(condition != 0.0, a, b)),
}
"""Number of arguments and meaning, by name (OpenMM User Guide, "Writing Custom Expressions")."""


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 64:
        # the derivative of a general power has a logarithm of the base
        return jax.lax.integer_pow(jnp.asarray(base), int(exponent))
    return jnp.power(base, exponent)


_OPERATORS: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: jnp.add,
    ast.Sub: jnp.subtract,
    ast.Mult: jnp.multiply,
    ast.Div: jnp.divide,
    ast.Pow: _power,
}

_NAME = r"[A-Za-z_]\w*"

_TOKEN = re.compile(rf"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|{_NAME}|[-+*/^(),])")


_OPEN = ("+", "-", "*", "/", "^", "(", ",")
"""Marks after which an operand comes."""

_VALUE = ";"
"""The name of the value itself among the definitions of an expression. No definition can have this name."""


class Step(NamedTuple):
    """A number, the name of a variable, or an operation with the places of its operands."""

    meaning: float | str | Callable[..., Any]
    operands: range


class Expression:
    """``value; name = ...; name = ...``, where definitions may use those to their right.

    Parameters
    ----------
    text
        The expression.
    particle_functions
        Number of arguments of functions of particles, by name. A call becomes a variable with a name such as
        ``distance(p1,p2)``.

    Attributes
    ----------
    variables
        The names that have to be given, in the order in which they are first needed.

    Raises
    ------
    ExpressionError
        If the text is not an expression, or it calls a function that does not exist.
    """

    def __init__(self, text: str, particle_functions: Mapping[str, int] | None = None) -> None:
        value, *definitions = text.split(";")
        self._definitions: dict[str, list[Step]] = {}
        needed: dict[str, None] = {}
        for part in (*filter(str.strip, reversed(definitions)), f"{_VALUE}={value}"):
            name, equals, meaning = (piece.strip() for piece in part.partition("="))
            try:
                if not equals or not re.fullmatch(rf"{_NAME}|{_VALUE}", name):
                    raise ExpressionError(f"{part.strip()!r} is no definition")
                steps, used = _read(meaning, particle_functions or {})
            except ExpressionError as error:
                raise ExpressionError(f"{error}, in {text!r}") from None
            needed |= dict.fromkeys(variable for variable in used if variable not in self._definitions)
            self._definitions[name] = steps
        self.variables = tuple(needed)

    def __call__(self, /, **values: Any) -> Any:
        """The value for arrays of one shape, one for each of ``variables``.

        Derivatives are taken in forward mode, one variable at a time, so that ``select`` passes on nothing from the
        side that is not selected, where a derivative may be infinite.
        """

        def function(*given: Any) -> Any:
            scope = dict(zip(self.variables, given, strict=True))
            for name, steps in self._definitions.items():
                scope[name] = _evaluate(steps, scope)
            return jnp.broadcast_to(jnp.asarray(scope[_VALUE], dtype), shape)

        arrays = jnp.broadcast_arrays(*(jnp.asarray(values[name]) for name in self.variables))
        shape, dtype = (arrays[0].shape, jnp.result_type(*arrays)) if arrays else ((), None)
        return _elementwise(function)(*arrays)


@lru_cache(maxsize=256)
def expression(text: str, particle_functions: tuple[tuple[str, int], ...] = ()) -> Expression:
    """An :class:`Expression`, read once."""
    return Expression(text, dict(particle_functions))


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays of one shape, element by element, with all partial derivatives in forward mode."""

    @jax.custom_jvp
    def call(*given: Any) -> Any:
        return function(*given)

    def slope(place: int) -> Callable[..., Any]:
        def partial_derivative(*given: Any) -> Any:
            def along(x: Any) -> Any:
                return function(*given[:place], x, *given[place + 1 :])

            return jax.jvp(along, (given[place],), (jnp.ones_like(given[place]),))[1]

        return _elementwise(partial_derivative)

    def rule(given: Any, tangents: Any) -> tuple[Any, Any]:
        value = call(*given)
        total = jnp.zeros_like(value)
        for place, tangent in enumerate(tangents):
            if not isinstance(tangent, SymbolicZero):
                total = total + slope(place)(*given) * tangent
        return value, total

    call.defjvp(rule, symbolic_zeros=True)
    return call


def _evaluate(steps: Sequence[Step], scope: Mapping[str, Any]) -> Any:
    values: list[Any] = [None] * len(steps)
    for place, (meaning, operands) in reversed([*enumerate(steps)]):
        if isinstance(meaning, str):
            values[place] = scope[meaning]
        elif isinstance(meaning, float):
            values[place] = meaning
        else:
            values[place] = meaning(*(values[operand] for operand in operands))
    return values[0]


def _read(text: str, particle_functions: Mapping[str, int]) -> tuple[list[Step], list[str]]:
    """The steps of a value, each before its operands, and its variables from left to right.

    Python's operators bind as OpenMM's do, ``**`` for ``^``.
    """
    try:
        nodes = [ast.parse(" ".join(map(_as_python, _tokens(text))), mode="eval").body]
    except (SyntaxError, RecursionError, MemoryError):  # the order of tokens is checked: only nesting can fail
        raise ExpressionError("the expression nests too deeply") from None
    steps: list[Step] = []
    variables: list[tuple[int, str]] = []
    for node in nodes:  # the list grows here: with recursion, sums of a thousand terms would fail
        meaning, operands = _step(node, particle_functions)
        steps.append(Step(meaning, range(len(nodes), len(nodes) + len(operands))))
        nodes += operands
        if isinstance(meaning, str):
            variables.append((node.col_offset, meaning))
    return steps, [name for _, name in sorted(variables)]


def _tokens(text: str) -> list[str]:
    """Numbers, names and marks. An error if OpenMM does not allow their order: Python allows more."""
    tokens: list[str] = []
    end, depth, before = 0, 0, "("
    while end < len(text) or depth or before in _OPEN:
        found = _TOKEN.match(text, end)
        if found is None and end < len(text):
            raise ExpressionError(f"{text[end:].strip()[0]!r} has no meaning")
        token, end = (found[1], found.end()) if found else ("the end", end)
        depth += (token == "(") - (token == ")")
        opens = token not in tuple("+*/^,)") if before in _OPEN else token in tuple("-+*/^,)")
        calls = token == "(" and re.fullmatch(_NAME, before)
        if not found or depth < 0 or not (opens or calls):
            raise ExpressionError(f"{token!r} is not expected there")
        tokens.append(token)
        before = token
    return tokens


def _as_python(token: str) -> str:
    """A token in Python's syntax. Names are encoded, since some are Python's keywords; ``007`` becomes ``007.``."""
    if re.fullmatch(_NAME, token):
        return f"_{token.encode().hex()}"
    return f"{token}." if token.isdigit() else "**" if token == "^" else token


def _name(node: ast.Name) -> str:
    """The name that :func:`_as_python` hid."""
    return bytes.fromhex(node.id[1:]).decode()


def _step(
    node: ast.expr, particle_functions: Mapping[str, int]
) -> tuple[float | str | Callable[..., Any], list[ast.expr]]:
    """The meaning of a node, and its operands."""
    match node:
        case ast.Constant(value=float(value)):
            return value, []
        case ast.Name():
            return _name(node), []
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return operator.neg, [operand]
        case ast.BinOp(left=left, op=sign, right=right):
            return _OPERATORS[type(sign)], [left, right]
        case ast.Call(func=ast.Name() as function, args=arguments):
            name = _name(function)
            wanted, meaning = _FUNCTIONS.get(name, (particle_functions.get(name), None))
            if wanted is None:
                raise ExpressionError(f"{name} is no function that is covered")
            if len(arguments) != wanted:
                raise ExpressionError(f"{name} takes {wanted} arguments, not {len(arguments)}")
            if meaning is not None:
                return meaning, arguments
            particles = [_name(a) for a in arguments if isinstance(a, ast.Name)]
            if len([p for p in particles if re.fullmatch(r"p[1-9][0-9]*", p)]) != wanted:
                raise ExpressionError(f"{name} takes particles (p1, p2, ...)")
            return f"{name}({','.join(particles)})", []
    raise ExpressionError("',' is not expected there")  # only a tuple is left
