"""The distribution of a quantity, the percentiles that it may show, and confidence intervals."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Weights = NDArray[np.float32] | Values

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
TAIL = 0.025  # outside a 95 % interval, on each side
MIN_REPEATS = 3  # with two runs the t interval is too wide to be useful (t = 12.7)


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both in the unit of the figure that it is about."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """n samples of one quantity, in its own unit. Has only the percentiles that n allows.

    `intervals` are within the run: how precisely n samples determine a percentile if the samples
    are independent. Near saturation they aren't, and another run may well lie outside.
    """

    n: int
    mean: float
    std: float
    min: float
    max: float
    percentiles: Mapping[float, float]
    intervals: Mapping[float, Interval]

    def percentile(self, percentile: float) -> float | None:
        return self.percentiles.get(percentile)

    def interval(self, percentile: float) -> Interval | None:
        return self.intervals.get(percentile)


def describe(values: Values, weights: Weights | None = None) -> Distribution | None:
    """Return the distribution of `values`; None where there is none.

    With weights (all above 0) each value counts as often as its weight says.
    """
    if values.size == 0:
        return None
    found = ordered(values, weights)
    n = round(found.n)
    allowed = [q for q in PERCENTILES if n >= min_samples(q)]
    low, high = float(found.values[0]), float(found.values[-1])
    # A sum's rounding can push the mean of equal values past them.
    mean = min(max(float(np.average(values, weights=weights)), low), high)
    variance = float(np.average((values - mean) ** 2, weights=weights))
    ranks = {q: order_ranks(n, q) for q in allowed}
    return Distribution(
        n=n,
        mean=mean,
        std=math.sqrt(variance),
        min=low,
        max=high,
        percentiles={q: found.percentile(q) for q in allowed},
        intervals={q: Interval(*map(found.at, ends)) for q, ends in ranks.items() if ends},
    )


def quantile(values: Values, percentile: float, weights: Weights | None = None) -> float | None:
    """Return a percentile from any number of samples: for limits, not for printing."""
    return ordered(values, weights).percentile(percentile) if values.size else None


def floats(column: Any) -> Values:
    """Return the values that a column of a frame has, absences left out."""
    found: Values = column.dropna().to_numpy(dtype="float64")
    return found


@dataclass(frozen=True, slots=True)
class Ordered:
    """Values in rising order, and the last rank of each (None: one rank each)."""

    values: Values
    ends: Values | None
    n: float

    def at(self, rank: int) -> float:
        """Return the value at a rank; ranks count from 0."""
        place = rank if self.ends is None else int(np.searchsorted(self.ends, rank, side="right"))
        return float(self.values[min(place, self.values.size - 1)])

    def percentile(self, percentile: float) -> float:
        """Return a percentile, interpolated linearly between ranks, as numpy and pandas do."""
        place = (self.n - 1) * percentile / 100
        rank = math.floor(place)
        low, high = self.at(rank), self.at(rank + 1)
        return min(low + (high - low) * (place - rank), high)


def ordered(values: Values, weights: Weights | None = None) -> Ordered:
    """Put values in order; a weight says how many samples a value counts as."""
    if weights is None:
        return Ordered(np.sort(values), None, values.size)
    order = np.argsort(values)
    ends = np.cumsum(weights[order], dtype=np.float64)
    return Ordered(values[order], ends, float(ends[-1]))


@cache
def min_samples(percentile: float) -> int:
    """Return how many samples a percentile needs before a 95 % interval for it exists.

    The widest order-statistic interval is [min, max]. All n samples fall below the
    quantile p with probability p^n, all above it with (1 - p)^n; neither may exceed 2.5 %
    (David and Nagaraja, Order Statistics, 7.1). `percentile` lies between 0 and 100,
    both excluded; ValueError otherwise.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {percentile:g}")
    p = percentile / 100
    return math.ceil(math.log(TAIL) / math.log(max(p, 1 - p)))


def highest_allowed(n: int) -> float | None:
    """Return the highest percentile up to p99 that n samples allow; None: none."""
    return next((q for q in (99.0, 95.0, 90.0, 50.0) if n >= min_samples(q)), None)


@cache
def order_ranks(n: int, percentile: float) -> tuple[int, int] | None:
    """Return the ranks, from 0, of the samples that enclose a percentile; None: n is too small.

    B, the number of n independent samples below the quantile, is binomial. The lower rank is the
    largest whose sample lies above the quantile with a probability of at most 2.5 %; the upper
    rank is the smallest whose sample lies below it with at most 2.5 %.
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

    It stays within 0 and 1, and is useful even where all or none met.
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
    """One figure of several runs of a level: each run's value, their mean and its interval."""

    values: tuple[float, ...]  # in the runs' order
    centre: float  # their geometric mean
    interval: Interval | None  # t on the logarithms; None: fewer than three runs


def repeated(values: Sequence[float]) -> Repeated | None:
    """Return the figure over the runs; None where no run has a positive value.

    Each run is one sample. The mean is of logarithms, since runs differ by factors.
    """
    from scipy.special import stdtrit

    kept = tuple(values)
    if not kept or min(kept) <= 0:
        return None
    logs = [math.log(value) for value in kept]
    mean = sum(logs) / len(logs)
    if len(kept) < MIN_REPEATS:
        # exp(log(x)) would change a single run's figure by rounding.
        return Repeated(kept, math.exp(mean) if len(kept) > 1 else kept[0], None)
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
    half = cast(float, stdtrit(len(logs) - 1, 1 - TAIL)) * error
    return Repeated(kept, math.exp(mean), Interval(math.exp(mean - half), math.exp(mean + half)))
