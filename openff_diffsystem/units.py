"""MD units: the units of every number inside this package.

nm, kJ/mol, radian, elementary charge, ps. Units are removed once, where a force field is read (:func:`to_md`), and
added again once, where one is written (:func:`from_md`).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from openff_diffsystem.exceptions import PositionsError, UnsupportedForceFieldError

COULOMB = 1.602176634e-19**2 * 6.02214076e23 / (4 * math.pi * 8.8541878128e-12) * 1e6
"""1/(4 pi eps0) in kJ mol-1 nm e-2 from CODATA 2018, as in OpenMM's ``SimTKOpenMMRealType.h``: 138.935457644."""

_ANGLES = ("degree", "radian")


@cache
def _md_unit(container: Any, unit: Any) -> str:
    dimensions = dict(unit.dimensionality)
    angle = sum(power for name, power in container.items() if name in _ANGLES)
    charge = dimensions.pop("[current]", 0)
    energy = dimensions.pop("[mass]", 0)
    mole = dimensions.pop("[substance]", 0)
    length = dimensions.pop("[length]", 0) - 2 * energy
    time = dimensions.pop("[time]", 0) + 2 * energy - charge
    if dimensions:
        raise UnsupportedForceFieldError(f"unit {unit} has dimensions {dimensions} that MD units do not cover")
    factors = (
        ("kilojoule", energy),
        ("mole", mole),
        ("nanometer", length),
        ("picosecond", time),
        ("elementary_charge", charge),
        ("radian", angle),
    )
    above = [name if power == 1 else f"{name}**{power}" for name, power in factors if power > 0]
    below = [name if power == -1 else f"{name}**{-power}" for name, power in factors if power < 0]
    if not above and not below:
        return "dimensionless"
    return " / ".join([" * ".join(above) or "1", *below])


_FACTORS: dict[Any, float] = {}
"""Factor to MD units by unit container. Our own dictionary is fast: a force field has thousands of quantities."""


def _factor(quantity: Any) -> float:
    container = quantity._units
    factor = _FACTORS.get(container)
    if factor is None:
        factor = _FACTORS[container] = float(type(quantity)(1.0, quantity.units).m_as(md_unit(quantity)))
    return factor


def md_unit(quantity: Any) -> str:
    """The MD unit of a quantity, for example ``"kilojoule / mole / nanometer**2"`` for a bond's ``k``."""
    return _md_unit(quantity._units, quantity.units)


def to_md(value: Any) -> float:
    """A scalar ``Quantity`` (or a plain number) as a float in MD units."""
    if not hasattr(value, "_units"):
        return float(value)
    return float(value._magnitude) * _factor(value)


def from_md(value: float, like: Any) -> Any:
    """A number in MD units as a ``Quantity`` in the unit of ``like``, or as a float if that has none."""
    if not hasattr(like, "_units"):
        return float(value)
    return type(like)(float(value) / _factor(like), like.units)


def nanometers(
    value: Any, what: str, shape: tuple[int | None, ...], error: type[Exception] = PositionsError
) -> Float[np.ndarray, "..."] | None:
    """Lengths as a float array in nm: from a ``Quantity`` of openff-units or OpenMM, or an array already in nm.

    Raises
    ------
    PositionsError
        Or the ``error`` given: if the shape is not ``shape`` (``None`` stands for any length) or a value is not finite.
    """
    if value is None:
        return None
    if hasattr(value, "m_as"):
        value = value.m_as("nanometer")
    elif hasattr(value, "value_in_unit"):
        import openmm.unit

        value = value.value_in_unit(openmm.unit.nanometer)
    array = np.asarray(value, dtype=float)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=False)):
        wanted = tuple("n" if n is None else n for n in shape)
        raise error(f"{what} must have shape {wanted}, got {array.shape}")
    if not np.isfinite(array).all():
        raise error(f"{what} hold NaN or infinity, first at index {np.argwhere(~np.isfinite(array))[0].tolist()}")
    return array
