"""Quantiles of the normal, Student's t and beta distributions.

In plain Python: importing scipy takes longer than everything else at the end of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

MOST_STEPS = 100_000  # of a fraction: it takes about the root of the larger of a and b
SMALL = 1e-300  # in the place of 0, by which nothing can be divided


@cache
def normal(share: float) -> float:
    """Return the standard normal distribution's quantile."""
    return NormalDist().inv_cdf(share)


@cache
def student_t(freedom: float, share: float) -> float:
    """Return the quantile of Student's t with so many degrees of freedom, for 0 < share < 1.

    By the beta distribution (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.5.27).
    """
    tails = 2 * min(share, 1 - share)
    inside = beta(freedom / 2, 0.5, tails)  # freedom / (freedom + t^2)
    return math.copysign(math.sqrt(freedom * (1 / inside - 1)), share - 0.5)


@cache
def beta(a: float, b: float, share: float) -> float:
    """Return the beta distribution's quantile, for a, b > 0 and 0 < share < 1."""
    return _root(lambda x: beta_share(a, b, x) - share)


def _root(rises: Callable[[float], float]) -> float:
    """Return where a function that rises from 0 to 1 has its root, to the last digits.

    Halving the interval takes as many steps as there are digits, whatever the function's shape.
    """
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)
    return high


def beta_share(a: float, b: float, x: float) -> float:
    """Return the share of the beta distribution up to x: the regularised incomplete beta function.

    By its continued fraction (Abramowitz and Stegun, 26.5.8), on the side where that is quick.
    """
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(b, a, 1 - x)
    size = a * math.log(x) + b * math.log1p(-x)
    size += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(a)
    return math.exp(size) / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Return 1 + d1 / (1 + d2 / (1 + …)) by the method of Lentz (Applied Optics 15, 1976)."""
    found, c, d = 1.0, 1.0, 0.0
    for step in range(1, MOST_STEPS):
        m = step // 2
        if step % 2:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + part * d) or SMALL)
        c = (1 + part / c) or SMALL
        found *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return found
