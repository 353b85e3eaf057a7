"""Samples over time: their mean, their integral and their gaps in the time that is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..figures.absent import Sampler, Why, why_no_rows
from ..figures.facts import Facts
from ..figures.window import Window
from ..records.row import Rows
from ..stats.batches import Values

GPU_GAP_S = 3.0  # thirty samples at the usual rate: energy by trapezoids over it would be invented


def judged_rows(facts: Facts, rows: Rows | None, sampler: Sampler, what: str) -> Rows | Why:
    """Return a sampler's rows of the time that is judged, or why there can be none."""
    if rows is None:
        return why_no_rows(facts.info, sampler, what)
    if facts.judged is None:
        return Why("no request was sent")
    return between(rows, facts.judged)


def between(rows: Rows, window: Window) -> Rows:
    """Return the samples of a time, both of its ends included."""
    return rows.of((rows["t_s"] >= window.start_s) & (rows["t_s"] <= window.end_s))


@dataclass(frozen=True, slots=True)
class Hole:
    """A time without samples; infinite where there is none before it, or after it."""

    from_s: float = -math.inf
    to_s: float = math.inf

    @property
    def words(self) -> str:
        if self.from_s == -math.inf:
            return "at any time" if self.to_s == math.inf else f"before {self.to_s:.1f} s"
        to = "on" if self.to_s == math.inf else f"to {self.to_s:.1f} s"
        return f"from {self.from_s:.1f} s {to}"

    def overlaps(self, from_s: object, to_s: object) -> bool:
        """Whether the gap lies partly in that time; a NaN is not an end."""
        begin = from_s if isinstance(from_s, int | float) else -math.inf
        end = to_s if isinstance(to_s, int | float) else math.inf
        return begin < self.to_s and self.from_s < end


@dataclass(frozen=True, eq=False)
class Samples:
    """Values of one quantity at rising times, in seconds; no value is missing."""

    t_s: Values
    values: Values

    @classmethod
    def of(cls, t_s: Values, values: Values) -> Samples:
        there = ~np.isnan(values)
        return cls(t_s[there], values[there])

    @property
    def peak(self) -> float | None:
        return float(self.values.max()) if self.values.size else None

    @cached_property
    def _steps_s(self) -> Values:
        """Time from each sample to the next, 0 where that is a gap."""
        steps: Values = np.diff(self.t_s)
        return np.where(steps > GPU_GAP_S, 0.0, steps)

    @property
    def covered_s(self) -> float:
        """Time between samples that aren't too far apart."""
        return float(self._steps_s.sum())

    @property
    def mean(self) -> float | None:
        """Mean over the time that is covered, linear between samples; None where none is."""
        if self.covered_s <= 0:
            return None
        middles = (self.values[:-1] + self.values[1:]) / 2
        mean = float(np.average(middles, weights=self._steps_s))
        # A sum's rounding can push the mean of equal values past them.
        return min(max(mean, float(self.values.min())), float(self.values.max()))

    def around(self, start_s: float, end_s: float) -> Samples:
        """Return the samples from the last one up to the start to the first one from the end on."""
        first = int(np.searchsorted(self.t_s, start_s, side="right")) - 1
        last = int(np.searchsorted(self.t_s, end_s, side="left"))
        part = slice(max(first, 0), last + 1)
        return Samples(self.t_s[part], self.values[part])

    def hole(self, start_s: float, end_s: float) -> Hole | None:
        """Return the first gap that covers a part of [start, end]."""
        t_s = self.around(start_s, end_s).t_s
        if t_s.size == 0 or t_s[0] > start_s:
            return Hole(to_s=float(t_s[0])) if t_s.size and t_s[0] <= end_s else Hole()
        wide = np.flatnonzero(np.diff(t_s) > GPU_GAP_S)
        if wide.size:
            return Hole(float(t_s[wide[0]]), float(t_s[wide[0] + 1]))
        return Hole(float(t_s[-1])) if t_s[-1] < end_s else None

    def at(self, t_s: float) -> float:
        """Return the value at a moment, linear between the samples on its two sides."""
        return float(np.interp(t_s, self.t_s, self.values))

    def area(self, start_s: float, end_s: float) -> float:
        """Return the area under straight lines through the samples, from start to end.

        Both lie within the samples' time.
        """
        inside = (self.t_s > start_s) & (self.t_s < end_s)
        t_s = np.concatenate([[start_s], self.t_s[inside], [end_s]])
        values = np.concatenate([[self.at(start_s)], self.values[inside], [self.at(end_s)]])
        return float(((values[:-1] + values[1:]) / 2 * np.diff(t_s)).sum())
