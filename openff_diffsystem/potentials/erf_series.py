"""erf(alpha r) / r as a polynomial in r^2: the part of a Coulomb interaction that Ewald sums leave to reciprocal space.

The function is entire in r^2, so Chebyshev interpolation converges faster than any power, and a polynomial is all
that the inner loop then needs: no exponential, no division, and derivatives of every order that fit the value.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import erf

_MAX_DEGREE = 48


@lru_cache
def erf_over_r(alpha: float, cutoff: float, tolerance: float) -> tuple[float, ...]:
    """Coefficients of erf(alpha r) / r in powers of ``2 r^2 / cutoff^2 - 1``, constant first.

    Parameters
    ----------
    alpha
        Ewald splitting parameter, 1/nm.
    cutoff
        The polynomial holds for r up to here, nm.
    tolerance
        Largest error relative to the value at the cutoff.

    Returns
    -------
    tuple
        Coefficients, 1/nm.
    """

    def function(w: np.ndarray) -> np.ndarray:
        r = cutoff * np.sqrt((np.asarray(w) + 1.0) / 2.0)
        small = alpha * r < 1e-6
        return np.where(small, 2.0 * alpha / np.sqrt(np.pi), erf(alpha * r) / np.where(small, 1.0, r))

    for degree in range(4, _MAX_DEGREE):
        series = Chebyshev.interpolate(function, degree)
        # coefficients fall off geometrically, so the last ones bound the error
        if np.abs(series.coef[-2:]).max() < tolerance / cutoff:
            break
    return tuple(series.convert(kind=Polynomial).coef.tolist())
