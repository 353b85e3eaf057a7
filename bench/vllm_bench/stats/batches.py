"""How sure a share is: by batch means, since neighbours in time depend on each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .quantiles import beta, student_t

Values = NDArray[np.float64]
Batches = NDArray[np.int64]

TAIL = 0.025  # outside a 95 % interval, on each side
MIN_REPEATS = 3  # with two runs the t interval is too wide to be useful (t = 12.7)
BATCHES = 10  # of a window: fewer have a wide t, more are too short to be independent
MIN_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both in the unit of the figure that it is about."""

    low: float
    high: float  # infinite: the samples give no upper bound

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.high)


@dataclass(frozen=True, slots=True)
class BatchError:
    """The standard error of a share, from batches."""

    error: float
    batches: int

    def times(self, confidence: float) -> float:
        """Return how far the truth may be above (or below) with this one-sided confidence."""
        return student_t(self.batches - 1, confidence) * self.error


def by_batch(part: Values, whole: Values, batches: Batches) -> BatchError | None:
    """Return the error of the share sum(part) / sum(whole) by batch means; None: too few batches.

    Batches differ in size, so it is the error of a ratio (Law, Simulation Modeling and Analysis,
    9.5.3; Cochran, Sampling Techniques, 6.4).
    """
    parts, wholes = np.bincount(batches, weights=part), np.bincount(batches, weights=whole)
    used = wholes > 0
    number, total = int(used.sum()), float(whole.sum())
    if number < MIN_BATCHES:
        return None
    off = parts[used] - float(part.sum()) / total * wholes[used]
    error = math.sqrt(float((off**2).sum()) * number / (number - 1)) / total
    return BatchError(error, number)


def batches_of(order: NDArray[Any]) -> Batches:
    """Return the batch of each value, by its place in `order` (its time): of equal numbers."""
    found = np.empty(order.size, dtype=np.int64)
    found[np.argsort(order, kind="stable")] = BATCHES * np.arange(order.size) // max(order.size, 1)
    return found


def binomial_bound(late: float, of: float, confidence: float = 0.95, *, upper: bool) -> float:
    """Return the one-sided bound of a share of independent events, as a fraction.

    Clopper and Pearson, Biometrika 26 (1934): right even where none or all of them were late.
    """
    if upper:
        return 1.0 if late >= of else beta(late + 1, of - late, confidence)
    return 0.0 if late <= 0 else beta(late, of - late + 1, 1 - confidence)
