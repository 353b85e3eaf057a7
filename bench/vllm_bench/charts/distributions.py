"""Distributions as curves to draw: few enough points, with both tails to their ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..figures.facts import Facts
from ..figures.metrics import METRICS, Sample, headline_metric
from ..figures.statistics import Values, ordered

DRAWN = ("ttft_ms", "latency_ms", "itl_ms", "chunk_gap_ms")
COUNTED = {"itl_ms": "tokens", "chunk_gap_ms": "waits"}  # what a value is one of; else requests
MOST_POINTS = 4000  # several to a pixel: more can't be seen


@dataclass(frozen=True, eq=False)
class Curve:
    """An empirical distribution: `shares[i]` % of n samples are at or below `values[i]`."""

    values: Values
    shares: Values
    n: int
    of: int  # how many points it had before some were left out


def curves_of(facts: Facts, most: int = MOST_POINTS) -> dict[str, Curve]:
    """Return the curve of each metric that is drawn; one without values has none.

    An open loop's times have two: from the send, and from the schedule, which is the headline.
    """
    names = {*DRAWN, *(headline_metric(name, facts.load) for name in DRAWN)}
    found = {m.name: curve(m.sample(facts), most) for m in METRICS if m.name in names}
    return {name: one for name, one in found.items() if one is not None}


def curve(sample: Sample, most: int = MOST_POINTS) -> Curve | None:
    """Return the curve of samples, each counted for its weight; None where there is none.

    Beyond `most` half of the points are spread evenly over the ranks and half over the
    values, so that a steep middle and a long tail are both as they were; the ends always stay.
    """
    values, weights = sample
    if values.size == 0:
        return None
    found = ordered(values, weights)
    ends = np.arange(1.0, values.size + 1) if found.ends is None else found.ends
    kept = _kept(found.values, most)
    return Curve(found.values[kept], 100 * ends[kept] / found.n, round(found.n), values.size)


def _kept(values: Values, most: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places, in rising order, of the values that are drawn."""
    last = values.size - 1
    if values.size <= most:
        return np.arange(values.size)
    by_rank = np.linspace(0, last, most // 2).astype(np.intp)
    # Logarithmic where it can be, for so is the axis of whatever spans a decade.
    span = np.geomspace if values[0] > 0 else np.linspace
    at = span(values[0], values[-1], most // 2)
    by_value = np.clip(np.searchsorted(values, at, side="right") - 1, 0, last)
    return np.unique(np.r_[by_rank, by_value, last])
