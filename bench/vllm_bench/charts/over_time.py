"""Lines over a run's time: rates by bin, samples with their gaps, and which points are drawn.

Of many points fewer are drawn, chosen so that all extremes stay. A chart is some hundred pixels
wide. In each column of pixels, a line through the first, the lowest, the highest and the last
point looks the same as a line through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import Values
from .chart import Line, Span

MOST_BINS = 240
MOST_FINE_BINS = 60  # for runs of seconds; in longer ones most bins would be nearly empty
FINE_S = 0.2
BIN_WIDTHS_S = (0.05, 0.1, FINE_S, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
GAP_S = 1.0  # samplers call a longer silence a gap
GAP_PERIODS = 3.0  # ... or this many periods, where those are long
POINTS_A_COLUMN = 4
MOST_POINTS = 600 * POINTS_A_COLUMN
DOTS_A_COLUMN = 12  # the lowest, the highest, and ten at even ranks between them
MOST_DOTS = 300 * DOTS_A_COLUMN
MOST_OF_A_CURVE = 4000  # several per pixel: more can't be seen

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Room:
    """How many points a chart may have: in a curve, in a line over time, in all dots."""

    curve: int = MOST_OF_A_CURVE
    line: int = MOST_POINTS
    dots: int = MOST_DOTS


PICTURE = Room()


def bin_width_s(span_s: float) -> float:
    """Return the narrowest bin width (s) that divides a span into few enough bins."""
    for width in BIN_WIDTHS_S:
        if span_s / width <= (MOST_BINS if width >= FINE_S else MOST_FINE_BINS):
            return float(width)
    return span_s / MOST_BINS


def rate(
    name: str, times: Values, weights: Values | NDArray[np.float32] | None, end_s: float
) -> Line:
    """Return the rate per second in bins from 0 to `end_s`; what lies outside doesn't count.

    A last bin of less than half the width is joined to the one before: a rate over so short a
    time is noise.
    """
    width = bin_width_s(end_s)
    edges = np.arange(0.0, end_s, width)
    if edges.size > 1 and end_s - edges[-1] < width / 2:
        edges = edges[:-1]
    edges = np.r_[edges, end_s]
    counts, _ = np.histogram(times, bins=edges, weights=weights)
    rates = counts / np.diff(edges)
    return Line(name=name, x=edges, y=np.r_[rates, rates[-1]], role="steps")


def stepped(name: str, times: Values, values: Values, most: int = MOST_POINTS) -> Line:
    """Return steps through every point, or, if there are too many, through the extremes."""
    kept = line_places(times, values, most)
    return Line(name=name, x=times[kept], y=values[kept], role="steps", of=times.size)


def sampled(
    name: str, rows: Rows, column: str, factor: float = 1.0, most: int = MOST_POINTS
) -> Line | None:
    """Return a column of samples as a line, with NaN where there is a gap; None: no value.

    If there are too many points, the extremes of each column of pixels are kept.
    """
    known = rows.of(rows.has(column))
    if not len(known):
        return None
    times, values = known["t_s"], factor * known[column]
    piece = np.cumsum(np.r_[False, np.diff(times) > silence_s(times)])
    kept = line_places(times, values, most)
    breaks = np.flatnonzero(np.diff(piece[kept])) + 1
    at, shown = times[kept], values[kept]
    at, shown = np.insert(at, breaks, at[breaks - 1]), np.insert(shown, breaks, np.nan)
    return Line(name=name, x=at, y=shown, role="samples", of=times.size + breaks.size)


def silence_s(times: Values) -> float:
    """Return how many seconds without samples are a gap."""
    if times.size < 2:
        return GAP_S
    return max(GAP_S, GAP_PERIODS * float(np.median(np.diff(times))))


def intervals(times: Values, held: NDArray[np.bool_]) -> list[Span]:
    """Return from when to when `held` was true, each at least as long as a sample's period."""
    if not held.any():
        return []
    period = float(np.median(np.diff(times))) if times.size > 1 else 0.0
    at = times[held]
    ends = np.flatnonzero(np.diff(at) > 2 * period)
    begins = np.r_[0, ends + 1]
    return [
        (float(at[i]), float(at[j]) + period)
        for i, j in zip(begins, np.r_[ends, at.size - 1], strict=True)
    ]


def line_places(times: Values, values: Values, most: int = MOST_POINTS) -> Places:
    """Return the indexes of the points that a line is drawn through, in the order of time.

    `times` rise. Up to `most` points (4 or more) all; else the extremes and ends of each column.
    """
    if times.size <= most:
        return np.arange(times.size)
    columns = _columns(times, most // POINTS_A_COLUMN)
    order = np.lexsort((values, columns))
    firsts, lasts = _edges(columns)
    # For a column that begins at index p of `columns`, the lowest value is at index p of `order`.
    return np.unique(np.r_[firsts, lasts, order[firsts], order[lasts]])


def dot_places(times: Values, values: Values, most: int = MOST_DOTS) -> Places:
    """Return the indexes of the dots to draw, in the order of time.

    Up to `most` dots (12 or more) all; else of each column the lowest, the highest, and some
    between them at even ranks, so that the dots drawn are spread like all of them.
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
