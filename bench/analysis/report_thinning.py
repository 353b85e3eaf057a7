"""Fewer points for a chart, without losing what one looks at it for: the extremes.

Nothing is averaged: every point that is left was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .statistics import Values

Places = NDArray[np.int64]


def extremes(times: Values, values: Values, most: int) -> Places:
    """Return the places of at most `most` points (4 or more), in rising order of `times`.

    Time is cut into equal slices; of each the lowest and the highest value are kept, and the
    first and the last point of all. `times` must rise. NaN values count as absent.
    """
    known: Places = np.flatnonzero(~np.isnan(values))
    if known.size <= most:
        return known
    t, v = times[known], values[known]
    edges = np.linspace(t[0], t[-1], (most - 2) // 2 + 1)
    starts = np.unique(np.searchsorted(t, edges[:-1], side="left"))
    ends = np.append(starts[1:], t.size)
    kept = [0, t.size - 1]
    for start, end in zip(starts, ends, strict=True):
        kept += [start + int(np.argmin(v[start:end])), start + int(np.argmax(v[start:end]))]
    chosen: Places = known[np.unique(kept)]
    return chosen


def distribution(shares: Values, most: int) -> Places:
    """Return the places of at most `most` points of a distribution, both ends among them.

    `shares` rise to 1. Half of the points are equally far apart; the others crowd towards both
    ends, where p99.9 and the worst value lie.
    """
    if shares.size <= most:
        everything: Places = np.arange(shares.size)
        return everything
    tail = np.geomspace(1 / shares.size, 0.5, most // 4)
    wanted = np.concatenate([np.linspace(0, 1, most - 2 * tail.size - 2), tail, 1 - tail])
    found = np.searchsorted(shares, wanted, side="left").clip(0, shares.size - 1)
    chosen: Places = np.unique(np.concatenate([[0], found, [shares.size - 1]]))
    return chosen
