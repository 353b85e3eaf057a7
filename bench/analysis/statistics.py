"""The distribution of one quantity over a run's requests, and which percentiles it may show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
TAIL = 0.025  # what a 95 % interval of equal tails leaves on each side


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


@dataclass(frozen=True, slots=True)
class Distribution:
    """n samples of one quantity, in its own unit. Holds only the percentiles that n allows."""

    n: int
    mean: float
    min: float
    max: float
    percentiles: Mapping[float, float]

    def percentile(self, percentile: float) -> float | None:
        """Return a percentile; None where there are too few samples for it."""
        return self.percentiles.get(percentile)


def describe(values: Values, percentiles: Sequence[float] = PERCENTILES) -> Distribution | None:
    """Return the distribution of `values`; None where there is none.

    Percentiles are interpolated linearly between order statistics, as numpy and
    `Series.quantile` do, so that anybody gets the same figures from the CSV.
    """
    if values.size == 0:
        return None
    allowed = [q for q in percentiles if values.size >= min_samples(q)]
    found = np.percentile(values, allowed).tolist() if allowed else []
    low, high = float(values.min()), float(values.max())
    return Distribution(
        n=int(values.size),
        # A sum's rounding can push the mean of equal values past them.
        mean=min(max(float(values.mean()), low), high),
        min=low,
        max=high,
        percentiles=dict(zip(allowed, found, strict=True)),
    )


def quantile(values: Values, percentile: float) -> float | None:
    """Return a percentile however few the samples: for thresholds, not for print."""
    return float(np.percentile(values, percentile)) if values.size else None


def floats(column: Any) -> Values:
    """Return the values that a column of a frame has, absences left out."""
    found: Values = column.dropna().to_numpy(dtype="float64")
    return found
