"""Fewer points than were measured, chosen so that nothing that stands out is lost.

A picture has some hundred columns. A line through a million points would be ink; one through
each column's first, lowest, highest and last point covers the same ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..figures.statistics import Values

POINTS_A_COLUMN = 4
MOST_POINTS = 600 * POINTS_A_COLUMN
DOTS_A_COLUMN = 12  # the lowest, the highest, and ten at even ranks between them
MOST_DOTS = 300 * DOTS_A_COLUMN

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Room:
    """How many points a picture has room for, by line and in all dots."""

    line: int = MOST_POINTS
    dots: int = MOST_DOTS


PICTURE = Room()


def line_places(times: Values, values: Values, most: int = MOST_POINTS) -> Places:
    """Return the places of the points that a line is drawn through, in the order of time.

    `times` rise. All of them, up to `most` (4 or more); else each column's extremes and ends.
    """
    if times.size <= most:
        return np.arange(times.size)
    columns = _columns(times, most // POINTS_A_COLUMN)
    order = np.lexsort((values, columns))
    firsts, lasts = _edges(columns)
    # Of a column that begins at place p of `columns`, the lowest value stands at p of `order`.
    return np.unique(np.r_[firsts, lasts, order[firsts], order[lasts]])


def dot_places(times: Values, values: Values, most: int = MOST_DOTS) -> Places:
    """Return the places of the dots to draw, in the order of time.

    All of them, up to `most` (12 or more); else of each column the lowest, the highest, and some
    between them at even ranks: what is drawn of a column is spread as all of it is.
    """
    if times.size <= most:
        return np.arange(times.size)
    columns = _columns(times, most // DOTS_A_COLUMN)
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
