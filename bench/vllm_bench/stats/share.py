"""A share of requests, and how far from it the truth may lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .batches import (
    MIN_REPEATS,
    TAIL,
    BatchError,
    Batches,
    Interval,
    Values,
    binomial_bound,
    by_batch,
)

LONGEST = 20  # requests whose clustering says how many are late together


@dataclass(frozen=True)
class Share:
    """How many requests there were and how many were within, in each batch of time."""

    arrivals: tuple[int, ...]
    within: tuple[int, ...]
    together: float = 1.0  # about how many requests are late together; 1: each by itself

    @property
    def of(self) -> int:
        return sum(self.arrivals)

    @property
    def late(self) -> int:
        return self.of - sum(self.within)

    @cached_property
    def error(self) -> BatchError | None:
        """The error of the share late: requests of one moment are late together."""
        whole = np.array(self.arrivals, dtype=np.float64)
        late = whole - np.array(self.within)
        return by_batch(late, whole, np.arange(whole.size)) if self.of else None

    def late_bounds(self, confidence: float) -> tuple[float, float]:
        """Return the lower and the upper bound of the share late, each with this confidence.

        The wider of two: by batch means, and as of independent events that make some requests late
        each, since a share of 0 has no error in its batches.
        """
        share = self.late / self.of
        margin = self.error.times(confidence) if self.error else 0.0
        late, of = self.late / self.together, self.of / self.together
        low = binomial_bound(late, of, confidence, upper=False)
        high = binomial_bound(late, of, confidence, upper=True)
        return max(0.0, min(low, share - margin)), min(1.0, max(high, share + margin))

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the share within, as fractions."""
        if not self.of:
            return None
        low, high = self.late_bounds(1 - TAIL)
        return Interval(1 - high, 1 - low)


def pooled_share(shares: Sequence[Share]) -> Share:
    """Return the share over several runs; from three runs on each run is one batch."""
    together = sum(one.together for one in shares) / len(shares)
    if len(shares) >= MIN_REPEATS:
        of_runs = tuple(one.of for one in shares), tuple(sum(one.within) for one in shares)
        return Share(*of_runs, together)
    return Share(
        tuple(n for one in shares for n in one.arrivals),
        tuple(n for one in shares for n in one.within),
        together,
    )


def together(values: Values, batches: Batches) -> float:
    """Return how many of the longest requests come together: the clustering of the longest 20.

    The ratio of two variances of their share: by batch means, and as if they were independent.
    Few requests are late, so their own clustering can't be seen; in a queue with 16 places this
    one held the rate of false "met" below 5 % (docs/METHOD.md, Objectives).
    """
    known = values[~np.isnan(values)]
    if known.size <= LONGEST:
        return 1.0
    longest = (values > np.partition(known, -LONGEST - 1)[-LONGEST - 1]).astype(np.float64)
    found = by_batch(longest, np.ones(values.size), batches)
    share = float(longest.mean())
    if found is None or not 0 < share < 1:
        return 1.0
    return max(1.0, found.error**2 * values.size / (share * (1 - share)))
