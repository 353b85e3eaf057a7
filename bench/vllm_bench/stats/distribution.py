"""The distribution of a quantity, the percentiles that it may show, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import BATCHES, MIN_REPEATS, TAIL, Batches, Interval, Values, by_batch
from .quantiles import normal

Weights = NDArray[np.float32] | Values

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Values of one quantity; how many samples each counts as; and its batch, a part of the time.

    None as weights: one each. None as batches: nothing is known of when they came.
    """

    values: Values
    weights: Weights | None = None
    batches: Batches | None = None

    def described(self) -> Distribution | None:
        return describe(self.values, self.weights, self.batches)

    @property
    def counts(self) -> Weights:
        return np.ones(self.values.size) if self.weights is None else self.weights

    def batches_in(self, run: int, whole: bool) -> Batches:
        """Return the batches among those of other runs; `whole`: the run is one batch."""
        if whole or self.batches is None:
            return np.full(self.values.size, run * BATCHES, dtype=np.int64)
        return self.batches + run * BATCHES


def pooled_sample(samples: Sequence[Sample]) -> Sample:
    """Return the samples of several runs as one; from three runs on each run is one batch."""
    known = [one for one in samples if one.values.size]
    if not known:
        return Sample(np.array([]))
    runs = len(known) >= MIN_REPEATS
    return Sample(
        np.concatenate([one.values for one in known]),
        None
        if all(one.weights is None for one in known)
        else np.concatenate([one.counts for one in known]),
        np.concatenate([one.batches_in(place, runs) for place, one in enumerate(known)]),
    )


@dataclass(frozen=True, slots=True)
class Distribution:
    """n samples of one quantity, in its own unit. Has only the percentiles that n allows.

    `intervals` are within the run, by batch means: neighbours in time may depend on each other, as
    they do in a queue. `needed` says how many samples would give an upper bound where there is
    none.
    """

    n: int
    mean: float
    std: float
    min: float
    max: float
    percentiles: Mapping[float, float]
    intervals: Mapping[float, Interval]
    needed: Mapping[float, int] = field(default_factory=dict)

    def percentile(self, percentile: float) -> float | None:
        return self.percentiles.get(percentile)

    def interval(self, percentile: float) -> Interval | None:
        return self.intervals.get(percentile)


def describe(
    values: Values, weights: Weights | None = None, batches: Batches | None = None
) -> Distribution | None:
    """Return the distribution of `values`; None where there is none.

    With weights (all above 0) each value counts as often as its weight says. There are intervals
    only where the batches are known.
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
    percentiles = {q: found.percentile(q) for q in allowed}
    margins = {}
    if batches is not None:
        margins = {q: _margin(values, weights, batches, at, q) for q, at in percentiles.items()}
    return Distribution(
        n=n,
        mean=mean,
        std=math.sqrt(variance),
        min=low,
        max=high,
        percentiles=percentiles,
        intervals={q: _around(found, q, m) for q, m in margins.items() if m is not None},
        needed={
            q: math.ceil(n * (m / (1 - q / 100)) ** 2)
            for q, m in margins.items()
            if m is not None and q / 100 + m >= 1
        },
    )


def _margin(
    values: Values, weights: Weights | None, batches: Batches, at: float, percentile: float
) -> float | None:
    """Return by how much the share of values up to `at` may be wrong, with 95 % confidence."""
    below = (values <= at).astype(np.float64)
    counted = np.ones(values.size) if weights is None else weights.astype(np.float64)
    found = by_batch(below * counted, counted, batches)
    if found is None:
        return None
    p = percentile / 100
    # Not less than for independent samples: equal batches don't make a figure exact.
    least = normal(1 - TAIL) * math.sqrt(p * (1 - p) / float(counted.sum()))
    return max(found.times(1 - TAIL), least)


def _around(found: Ordered, percentile: float, margin: float) -> Interval:
    """Return the values at the percentile's place, less and more the margin."""
    p = percentile / 100
    low = found.percentile(100 * (p - margin)) if p > margin else 0.0  # no figure here is below 0
    return Interval(low, found.percentile(100 * (p + margin)) if p + margin < 1 else math.inf)


def quantile(values: Values, percentile: float, weights: Weights | None = None) -> float | None:
    """Return a percentile from any number of samples: for limits, not for printing."""
    return ordered(values, weights).percentile(percentile) if values.size else None


def floats(column: NDArray[Any]) -> Values:
    """Return the values of a column of numbers, absences (NaN) left out."""
    found: Values = column[~np.isnan(column)].astype(np.float64)
    return found


def filled(column: NDArray[Any], others: NDArray[Any]) -> Values:
    """Return a column's values, and where it has none (NaN) those of another one."""
    return np.where(np.isnan(column), others, column)


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
        """Return a percentile, interpolated linearly between ranks, as numpy does."""
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
