"""The functions that split Ewald sums in real space, as polynomials for the inner loop.

They are entire, so Chebyshev interpolation converges faster than any power: one or two dozen coefficients are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import erfcx, gammainc

_MAX_DEGREE = 48


@lru_cache
def scaled_erfc_series(reach: float, tolerance: float) -> tuple[float, ...]:
    """Coefficients of exp(x^2) erfc(x) in powers of ``2 x / reach - 1``, constant first.

    Parameters
    ----------
    reach
        The polynomial holds for x from 0 up to here.
    tolerance
        Largest error.
    """
    return _interpolate(lambda w: erfcx(reach * (w + 1.0) / 2.0), tolerance)


@lru_cache
def screened_dispersion_series(alpha: float, cutoff: float, tolerance: float) -> tuple[float, ...]:
    """Coefficients of (1 - exp(-u) (1 + u + u^2/2)) / r^6, u = (alpha r)^2, in powers of ``2 r^2 / cutoff^2 - 1``.

    Essmann et al., J. Chem. Phys. 103, 8577 (1995), equation (5.2).

    Parameters
    ----------
    alpha
        Ewald splitting parameter, 1/nm.
    cutoff
        The polynomial holds for r up to here, nm.
    tolerance
        Largest error relative to 1/cutoff^6.

    Returns
    -------
    tuple
        Coefficients, 1/nm^6, constant first.
    """

    def function(w: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        r = cutoff * np.sqrt((w + 1.0) / 2.0)
        u = (alpha * r) ** 2
        small = u < 1e-2
        # 1 - exp(-u) (1 + u + u^2/2) is the regularised incomplete gamma function; below, its power series
        series = 1 / 6 - u / 8 + u**2 / 20 - u**3 / 72 + u**4 / 336 - u**5 / 1920 + u**6 / 12960
        return alpha**6 * np.where(small, series, gammainc(3, u) / np.where(small, 1.0, u) ** 3)

    return _interpolate(function, tolerance / cutoff**6)


def _interpolate(function: Callable[[np.ndarray], np.ndarray], tolerance: float) -> tuple[float, ...]:
    """Coefficients of a polynomial that follows a function on [-1, 1]."""
    for degree in range(4, _MAX_DEGREE):
        series = Chebyshev.interpolate(function, degree)
        # coefficients fall off geometrically, so the last ones bound the error
        if np.abs(series.coef[-2:]).max() < tolerance:
            break
    return tuple(series.convert(kind=Polynomial).coef.tolist())
