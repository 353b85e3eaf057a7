"""A distribution as a curve to draw: few enough points, with both tails to their ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metrics import Sample
from .statistics import Values, ordered

MOST_POINTS = 4000  # several to a pixel: more can't be seen


@dataclass(frozen=True, eq=False)
class Curve:
    """An empirical distribution: `shares[i]` % of n samples are at or below `values[i]`."""

    values: Values
    shares: Values
    n: int

    @property
    def thinned(self) -> bool:
        """Whether it has fewer points than there were samples."""
        return self.values.size < self.n


def curve(sample: Sample) -> Curve | None:
    """Return the curve of samples, each counted for its weight; None where there is none.

    Beyond `MOST_POINTS` half of the points are spread evenly over the ranks and half over the
    values, so that a steep middle and a long tail are both as they were; the ends always stay.
    """
    values, weights = sample
    if values.size == 0:
        return None
    found = ordered(values, weights)
    ends = np.arange(1.0, values.size + 1) if found.ends is None else found.ends
    kept = _kept(found.values)
    return Curve(found.values[kept], 100 * ends[kept] / found.n, round(found.n))


def _kept(values: Values) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places, in rising order, of the values that are drawn."""
    last = values.size - 1
    if values.size <= MOST_POINTS:
        return np.arange(values.size)
    by_rank = np.linspace(0, last, MOST_POINTS // 2).astype(np.intp)
    # Logarithmic where it can be, for so is the axis of whatever spans a decade.
    span = np.geomspace if values[0] > 0 else np.linspace
    at = span(values[0], values[-1], MOST_POINTS // 2)
    by_value = np.clip(np.searchsorted(values, at, side="right") - 1, 0, last)
    return np.unique(np.r_[by_rank, by_value, last])
