"""A rate of work, and how far from it the truth may lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .batches import MIN_REPEATS, TAIL, BatchError, Interval, Values, binomial_bound, by_batch

MANY = 1_000_000.0  # a share of so many is nearly Poisson's


@dataclass(frozen=True)
class Rate:
    """How much work was done in each part of the time, and how long each part was."""

    work: tuple[float, ...]
    spans_s: tuple[float, ...]
    events: float = 0.0  # requests of one size that would have done it
    of_runs: bool = False  # each part is a run; else a batch of the time of one run, or of two

    @property
    def total_s(self) -> float:
        return sum(self.spans_s)

    @property
    def per_s(self) -> float:
        """The rate; over runs their geometric mean, as that of other figures is."""
        if self._logs is not None:
            return math.exp(float(self._logs.mean()))
        return sum(self.work) / self.total_s if self.total_s else 0.0

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Return the lower and the upper bound, each with this confidence.

        By batch means; over runs by the logarithms of their rates; and with too few parts for
        either as if each request had come by itself, which is wider where a server is never idle.
        """
        if self._error is None:
            return self._as_events(confidence)
        margin = self._error.times(confidence)
        if self._logs is not None:
            return self.per_s * math.exp(-margin), self.per_s * math.exp(margin)
        return max(0.0, self.per_s - margin), self.per_s + margin

    @property
    def interval(self) -> Interval:
        """The 95 % interval."""
        return Interval(*self.bounds(1 - TAIL))

    @cached_property
    def _logs(self) -> Values | None:
        """The logarithms of the runs' rates, since runs differ by factors; None: of one run."""
        if not self.of_runs or min(self.work) <= 0:
            return None
        rates = zip(self.work, self.spans_s, strict=True)
        return np.array([math.log(work / span_s) for work, span_s in rates])

    @cached_property
    def _error(self) -> BatchError | None:
        parts = np.arange(len(self.work))
        if self._logs is not None:
            return by_batch(self._logs, np.ones(parts.size), parts)
        return by_batch(np.array(self.work), np.array(self.spans_s), parts) if self.work else None

    def _as_events(self, confidence: float) -> tuple[float, float]:
        """Return Poisson's bounds of the number of events, as a rate (by Clopper and Pearson)."""
        if not self.events:
            return self.per_s, self.per_s
        share = self.events / MANY
        low, high = (
            binomial_bound(self.events, MANY, confidence, upper=upper) / share
            for upper in (False, True)
        )
        return self.per_s * low, self.per_s * high


def alike(work: Values) -> float:
    """Return how many requests of one size would make the sum of these as uncertain as it is.

    Kish, Survey Sampling (1965), 11.7: (sum of w)^2 / sum of w^2.
    """
    squares = float((work**2).sum())
    return float(work.sum()) ** 2 / squares if squares else 0.0


def pooled_rate(rates: Sequence[Rate]) -> Rate:
    """Return the rate over several runs; from three runs on each run is one part."""
    events = sum(one.events for one in rates)
    if len(rates) >= MIN_REPEATS:
        work = tuple(sum(one.work) for one in rates)
        return Rate(work, tuple(one.total_s for one in rates), events, of_runs=True)
    return Rate(
        tuple(part for one in rates for part in one.work),
        tuple(part for one in rates for part in one.spans_s),
        events,
    )
