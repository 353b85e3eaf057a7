"""Fewer points than were measured, chosen so that nothing that stands out is lost.

A picture has some hundred columns. A line through a million points would be ink; one through
each column's first, lowest, highest and last point covers the same ground.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .statistics import Values

COLUMNS = 600
MOST_POINTS = 4 * COLUMNS
DOTS_A_COLUMN = 12  # the lowest, the highest, and ten at even ranks between them
DOT_COLUMNS = 300
MOST_DOTS = DOT_COLUMNS * DOTS_A_COLUMN

Places = NDArray[np.intp]


def line_places(times: Values, values: Values) -> Places:
    """Return the places of the points that a line is drawn through, in the order of time.

    `times` rise. All of them, up to `MOST_POINTS`; else each column's extremes and ends.
    """
    if times.size <= MOST_POINTS:
        return np.arange(times.size)
    columns = _columns(times, COLUMNS)
    order = np.lexsort((values, columns))
    firsts, lasts = _edges(columns)
    # Of a column that begins at place p of `columns`, the lowest value stands at p of `order`.
    return np.unique(np.r_[firsts, lasts, order[firsts], order[lasts]])


def dot_places(times: Values, values: Values) -> Places:
    """Return the places of the dots to draw, in the order of time.

    All of them, up to `MOST_DOTS`; else of each column the lowest, the highest, and some between
    them at even ranks: what is drawn of a column is spread as all of it is.
    """
    if times.size <= MOST_DOTS:
        return np.arange(times.size)
    columns = _columns(times, DOT_COLUMNS)
    order = np.lexsort((values, columns))
    firsts, lasts = _edges(columns[order])
    steps = np.linspace(0, 1, DOTS_A_COLUMN)
    ranks = np.rint(firsts + np.outer(steps, lasts - firsts)).astype(np.intp)
    return np.unique(order[ranks])


def _columns(times: Values, count: int) -> NDArray[np.int64]:
    low, high = float(times.min()), float(times.max())
    width = (high - low) / count or 1.0
    return np.minimum((times - low) // width, count - 1).astype(np.int64)


def _edges(columns: NDArray[np.int64]) -> tuple[Places, Places]:
    """Return where each column begins and ends; `columns` rise."""
    changes = np.flatnonzero(np.diff(columns))
    return np.r_[0, changes + 1].astype(np.intp), np.r_[changes, columns.size - 1].astype(np.intp)
