"""What Ewald sums leave to reciprocal space, as polynomials in r^2.

The functions are entire in r^2, so Chebyshev interpolation converges faster than any power, and a polynomial is all
that the inner loop then needs: no exponential, no division, and derivatives of every order that fit the value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import erf, gammainc

_MAX_DEGREE = 48


@lru_cache
def erf_over_r_series(alpha: float, cutoff: float, tolerance: float) -> tuple[float, ...]:
    """Coefficients of erf(alpha r) / r in powers of ``2 r^2 / cutoff^2 - 1``, constant first.

    Parameters
    ----------
    alpha
        Ewald splitting parameter, 1/nm.
    cutoff
        The polynomial holds for r up to here, nm.
    tolerance
        Largest error relative to 1/cutoff.

    Returns
    -------
    tuple
        Coefficients, 1/nm.
    """

    def function(r: np.ndarray) -> np.ndarray:
        small = alpha * r < 1e-6
        return np.where(small, 2.0 * alpha / np.sqrt(np.pi), erf(alpha * r) / np.where(small, 1.0, r))

    return _interpolate(function, cutoff, tolerance / cutoff)


@lru_cache
def screened_dispersion_series(alpha: float, cutoff: float, tolerance: float) -> tuple[float, ...]:
    """Coefficients of (1 - exp(-u) (1 + u + u^2/2)) / r^6, u = (alpha r)^2, as :func:`erf_over_r_series` gives its own.

    Essmann et al., J. Chem. Phys. 103, 8577 (1995), equation (5.2). The tolerance is relative to 1/cutoff^6, the
    coefficients are in 1/nm^6.
    """

    def function(r: np.ndarray) -> np.ndarray:
        u = (alpha * r) ** 2
        small = u < 1e-2
        # 1 - exp(-u) (1 + u + u^2/2) is the regularised incomplete gamma function; below, its power series
        series = 1 / 6 - u / 8 + u**2 / 20 - u**3 / 72 + u**4 / 336 - u**5 / 1920 + u**6 / 12960
        return alpha**6 * np.where(small, series, gammainc(3, u) / np.where(small, 1.0, u) ** 3)

    return _interpolate(function, cutoff, tolerance / cutoff**6)


def _interpolate(function: Callable[[np.ndarray], np.ndarray], cutoff: float, tolerance: float) -> tuple[float, ...]:
    def of_w(w: np.ndarray) -> np.ndarray:
        return function(cutoff * np.sqrt((np.asarray(w) + 1.0) / 2.0))

    for degree in range(4, _MAX_DEGREE):
        series = Chebyshev.interpolate(of_w, degree)
        # coefficients fall off geometrically, so the last ones bound the error
        if np.abs(series.coef[-2:]).max() < tolerance:
            break
    return tuple(series.convert(kind=Polynomial).coef.tolist())
