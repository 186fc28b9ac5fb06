"""OpenMM's algebraic expressions, such as those of its custom forces, as functions of jax arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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

_OPERATORS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "+": (1, 2, jnp.add),
    "-": (1, 2, jnp.subtract),
    "*": (2, 3, jnp.multiply),
    "/": (2, 3, jnp.divide),
    "^": (4, 4, jnp.power),
}
"""How strongly an operator binds, how strongly those to its right must bind, and its meaning."""

_SIGN_BINDS = 3
"""``-x^2`` is ``-(x^2)``, and ``-x*y`` is ``(-x)*y``."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[-+*/^(),]))"
)


class Number(NamedTuple):
    """A constant."""

    value: float


class Variable(NamedTuple):
    """A name that is given a value, or defined later in the expression."""

    name: str


class Call(NamedTuple):
    """A function or an operator, and what it is applied to."""

    name: str
    arguments: tuple[Any, ...]


class Expression:
    """``value; name = ...; name = ...``, where definitions may use those to their right.

    Parameters
    ----------
    text
        The expression.
    particle_functions
        Functions of particles only, by name with their numbers of arguments. A call becomes a variable of the name
        ``distance(p1,p2)``.

    Attributes
    ----------
    variables
        The names that have to be given, in the order in which they are first needed.

    Raises
    ------
    ExpressionError
        If the text is no expression, or it calls a function that does not exist.
    """

    def __init__(self, text: str, particle_functions: Mapping[str, int] | None = None) -> None:
        value, *definitions = [part for part in text.split(";") if part.strip()] or [""]
        self._value = _Parser(text, value, particle_functions or {}).parse()
        self._definitions: dict[str, Any] = {}
        for part in reversed(definitions):
            name, equals, meaning = part.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
                raise ExpressionError(f"{part.strip()!r} is no definition, in {text!r}")
            self._definitions[name.strip()] = _Parser(text, meaning, particle_functions or {}).parse()
        needed: dict[str, None] = {}
        known: set[str] = set()
        for name, meaning in (*self._definitions.items(), ("", self._value)):
            needed |= dict.fromkeys(variable for variable in _names(meaning) if variable not in known)
            known.add(name)
        self.variables = tuple(needed)

    def __call__(self, /, **values: Any) -> Any:
        """The value for arrays of one shape, one for each of ``variables``.

        Derivatives are taken in forward mode, one variable at a time, so that ``select`` passes on nothing from the
        side that is not selected, where a derivative may be infinite.
        """

        def function(*given: Any) -> Any:
            scope = dict(zip(self.variables, given, strict=True))
            for name, meaning in self._definitions.items():
                scope[name] = _evaluate(meaning, scope)
            return jnp.broadcast_to(jnp.asarray(_evaluate(self._value, scope), dtype), shape)

        arrays = jnp.broadcast_arrays(*(jnp.asarray(values[name]) for name in self.variables))
        shape, dtype = (arrays[0].shape, jnp.result_type(*arrays)) if arrays else ((), None)
        return _elementwise(function)(*arrays)


@lru_cache(maxsize=256)
def expression(text: str, particle_functions: tuple[tuple[str, int], ...] = ()) -> Expression:
    """An :class:`Expression`, read once."""
    return Expression(text, dict(particle_functions))


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays of one shape, element by element, whose partial derivatives are all had in forward mode."""

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


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, Variable):
        yield node.name
    elif isinstance(node, Call):
        for argument in node.arguments:
            yield from _names(argument)


def _evaluate(node: Any, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Variable):
        return scope[node.name]
    if node.name == "^" and (exponent := _whole(node.arguments[1])) is not None:
        # the derivative of a general power has a logarithm of the base
        return jax.lax.integer_pow(jnp.asarray(_evaluate(node.arguments[0], scope)), exponent)
    arguments = [_evaluate(argument, scope) for argument in node.arguments]
    if node.name == "negative":
        return -arguments[0]
    meaning = _OPERATORS[node.name][2] if node.name in _OPERATORS else _FUNCTIONS[node.name][1]
    return meaning(*arguments)


def _whole(node: Any) -> int | None:
    """The exponent, where it is a constant whole number of moderate size."""
    if isinstance(node, Call) and node.name == "negative":
        found = _whole(node.arguments[0])
        return None if found is None else -found
    if isinstance(node, Number) and node.value.is_integer() and abs(node.value) <= 64:
        return int(node.value)
    return None


class _Parser:
    """By precedence, from left to right."""

    def __init__(self, whole: str, text: str, particle_functions: Mapping[str, int]) -> None:
        self.whole, self.particle_functions = whole, particle_functions
        self.tokens: list[tuple[str, str]] = []
        end, text = 0, text.rstrip()
        while end < len(text):
            found = _TOKEN.match(text, end)
            if found is None:
                raise ExpressionError(f"{text[end:].strip()[0]!r} has no meaning, in {whole!r}")
            kind: str = found.lastgroup  # type: ignore[assignment]
            self.tokens.append((kind, found[kind]))
            end = found.end()
        self.tokens.append(("end", "the end"))
        self.at = 0

    def parse(self) -> Any:
        """All of it."""
        node = self._operation(0)
        if self.tokens[self.at][0] != "end":
            raise self._unexpected()
        return node

    def _operation(self, least: int) -> Any:
        node = self._operand()
        while (mark := self.tokens[self.at][1]) in _OPERATORS and _OPERATORS[mark][0] >= least:
            self.at += 1
            node = Call(mark, (node, self._operation(_OPERATORS[mark][1])))
        return node

    def _operand(self) -> Any:
        kind, text = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            return Number(float(text))
        if kind == "name":
            self.at += 1
            return self._call(text) if self.tokens[self.at][1] == "(" else Variable(text)
        if text == "-":
            self.at += 1
            return Call("negative", (self._operation(_SIGN_BINDS),))
        if text != "(":
            raise self._unexpected()
        self.at += 1
        node = self._operation(0)
        self._expect(")")
        return node

    def _call(self, name: str) -> Any:
        arguments: list[Any] = []
        while self.tokens[self.at][1] == ("," if arguments else "("):
            self.at += 1
            arguments.append(self._operation(0))
        self._expect(")")
        if name in self.particle_functions:
            wanted = self.particle_functions[name]
            if all(isinstance(a, Variable) and re.fullmatch(r"p[1-9]\d*", a.name) for a in arguments):
                self._require(name, wanted, len(arguments))
                return Variable(f"{name}({','.join(a.name for a in arguments)})")
            raise ExpressionError(f"{name} takes particles (p1, p2, ...), in {self.whole!r}")
        if name not in _FUNCTIONS:
            raise ExpressionError(f"{name} is no function that is covered, in {self.whole!r}")
        self._require(name, _FUNCTIONS[name][0], len(arguments))
        return Call(name, tuple(arguments))

    def _require(self, name: str, wanted: int, given: int) -> None:
        if given != wanted:
            raise ExpressionError(f"{name} takes {wanted} arguments, not {given}, in {self.whole!r}")

    def _expect(self, mark: str) -> None:
        if self.tokens[self.at][1] != mark:
            raise self._unexpected()
        self.at += 1

    def _unexpected(self) -> ExpressionError:
        return ExpressionError(f"{self.tokens[self.at][1]!r} is not expected there, in {self.whole!r}")
