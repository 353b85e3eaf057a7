"""What went on over a run's seconds, as lines to draw: rates by bin, samples with their gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..figures.statistics import Values
from .thin import MOST_POINTS, line_places

if TYPE_CHECKING:
    import pandas as pd

MOST_BINS = 240
MOST_FINE_BINS = 60  # of runs of seconds; in longer ones most would hold an event or none
FINE_S = 0.2
BIN_WIDTHS_S = (0.05, 0.1, FINE_S, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
GAP_S = 1.0  # samplers call a longer silence a gap
GAP_PERIODS = 3.0  # ... or so many of their periods, where those are long

Span = tuple[float, float]  # seconds from the run's start


@dataclass(frozen=True, eq=False)
class Track:
    """A line: `values[i]` at `times[i]`, or from there on where it goes in `steps`.

    NaN is a gap. `lost` says that the samples end although others go on. Tracks of one `place`
    look alike in all panels.
    """

    name: str
    times: Values
    values: Values
    steps: bool = False
    thinned: bool = False  # some points were left out, but no extreme
    lost: bool = False
    place: int | None = None  # None: as they follow each other


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed, and why in the server's words."""

    at_s: float  # its send, or the moment that it was meant to go
    end_s: float
    request_index: int
    kind: str
    words: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Dots:
    """A dot a request that succeeded, and when each kind of failure was sent."""

    metric: str
    times: Values
    values: Values
    requests: NDArray[np.int64]  # request_index of each
    of: int  # how many there were before some were left out
    failures: dict[str, Values]
    first_failures: tuple[Failure, ...]  # to tell of, in the order of their ends


@dataclass(frozen=True, eq=False)
class Held:
    """When a GPU's clocks were held down, and by what."""

    gpu: str
    why: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel: what its axis says, and what is drawn in it."""

    key: str
    label: str
    tracks: tuple[Track, ...] = ()
    dots: Dots | None = None
    held: tuple[Held, ...] = ()
    most: float | None = None  # the top of a scale that has one


def bin_width_s(span_s: float) -> float:
    """Return the narrowest width by which a span has no more than `MOST_BINS`, or fine ones."""
    for width in BIN_WIDTHS_S:
        if span_s / width <= (MOST_BINS if width >= FINE_S else MOST_FINE_BINS):
            return float(width)
    return span_s / MOST_BINS


def rate(
    name: str, times: Values, weights: Values | NDArray[np.float32] | None, end_s: float
) -> Track:
    """Return what came a second, in bins from 0 to `end_s`; nothing before or after counts.

    A last bin of less than half the width is joined to the one before: a rate over a moment is
    noise.
    """
    width = bin_width_s(end_s)
    edges = np.arange(0.0, end_s, width)
    if edges.size > 1 and end_s - edges[-1] < width / 2:
        edges = edges[:-1]
    edges = np.r_[edges, end_s]
    counts, _ = np.histogram(times, bins=edges, weights=weights)
    rates = counts / np.diff(edges)
    return Track(name, edges, np.r_[rates, rates[-1]], steps=True)


def stepped(name: str, times: Values, values: Values, most: int = MOST_POINTS) -> Track:
    """Return a track of steps through every point, or where they are too many each extreme."""
    kept = line_places(times, values, most)
    return Track(name, times[kept], values[kept], steps=True, thinned=kept.size < times.size)


def sampled(
    name: str, rows: pd.DataFrame, column: str, factor: float = 1.0, most: int = MOST_POINTS
) -> Track | None:
    """Return a column of samples as a line, with NaN wherever they were silent; None: no value.

    Of too many points each column's extremes are kept.
    """
    known = rows[rows[column].notna()]
    if known.empty:
        return None
    times = known["t_s"].to_numpy(dtype="float64")
    values = factor * known[column].to_numpy(dtype="float64")
    stretch = np.cumsum(np.r_[False, np.diff(times) > silence_s(times)])
    kept = line_places(times, values, most)
    breaks = np.flatnonzero(np.diff(stretch[kept])) + 1
    at, shown = times[kept], values[kept]
    at, shown = np.insert(at, breaks, at[breaks - 1]), np.insert(shown, breaks, np.nan)
    return Track(name, at, shown, thinned=kept.size < times.size)


def silence_s(times: Values) -> float:
    """Return how long samples may be silent before it is a gap."""
    if times.size < 2:
        return GAP_S
    return max(GAP_S, GAP_PERIODS * float(np.median(np.diff(times))))


def stretches(times: Values, held: NDArray[np.bool_]) -> list[Span]:
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
