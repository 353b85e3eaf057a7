"""95 % intervals: of a percentile within a run, of a share, and of a figure over repeats."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

TAIL = 0.025  # what a 95 % interval of equal tails leaves on each side
MIN_REPEATS = 3  # two runs give a t interval so wide (t = 12.7) that it says nothing


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both in the unit of the figure that it is about."""

    low: float
    high: float


@cache
def order_ranks(n: int, percentile: float) -> tuple[int, int] | None:
    """Return the ranks, from 0, of the samples that enclose a percentile; None: n is too small.

    B, the number of n independent samples below the quantile, is binomial. The lower rank is the
    largest whose sample lies above the quantile with at most 2.5 %, the upper one likewise.
    """
    from scipy.special import bdtr

    p = percentile / 100

    def first_reaching(share: float) -> int:
        """Return the smallest k with P(B <= k) >= share."""
        return bisect_left(range(n), share, key=lambda k: float(bdtr(k, n, p)))

    low, high = first_reaching(TAIL) - 1, first_reaching(1 - TAIL)
    return (low, high) if low >= 0 and high < n else None


def wilson(met: int, of: int) -> Interval | None:
    """Return Wilson's interval of a share, as fractions; None where nothing was counted.

    It stays within 0 and 1, and says something even where all or none met.
    """
    from scipy.special import ndtri

    if of == 0:
        return None
    z = float(ndtri(1 - TAIL))
    share, spread = met / of, z * z / of
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    # Exactly 0 and 1 at the ends, whatever the rounding.
    return Interval(0.0 if met == 0 else low, 1.0 if met == of else high)


@dataclass(frozen=True, slots=True)
class Repeated:
    """One figure of several runs of a level: every run's, and what they say together."""

    values: tuple[float, ...]  # in the runs' order
    centre: float  # their geometric mean
    interval: Interval | None  # t on the logarithms; None: fewer than three runs


def repeated(values: Sequence[float]) -> Repeated | None:
    """Return what runs say together; None where there is no run with a positive figure.

    The run is the unit: a percentile of each run is one sample. On logarithms, since runs differ
    by factors.
    """
    from scipy.special import stdtrit

    kept = tuple(values)
    if not kept or min(kept) <= 0:
        return None
    logs = [math.log(value) for value in kept]
    mean = sum(logs) / len(logs)
    if len(kept) < MIN_REPEATS:
        # The rounding of exp(log(x)) would move a single run's figure.
        return Repeated(kept, math.exp(mean) if len(kept) > 1 else kept[0], None)
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
    half = cast(float, stdtrit(len(logs) - 1, 1 - TAIL)) * error
    return Repeated(kept, math.exp(mean), Interval(math.exp(mean - half), math.exp(mean + half)))
