"""The steady window: the part of a run in which the load was held, without start-up and drain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import Values


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds from the run's start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def holds(self, times_s: Values) -> NDArray[np.bool_]:
        """Return which of these moments are inside; the end is excluded."""
        return (times_s >= self.start_s) & (times_s < self.end_s)

    def shares(self, start_s: Values, end_s: Values) -> Values:
        """Return which share of each time from start to end lies inside, from 0 to 1."""
        inside = np.minimum(end_s, self.end_s) - np.maximum(start_s, self.start_s)
        length = end_s - start_s
        instant = length <= 0
        shares = np.clip(inside, 0, None) / np.where(instant, 1, length)
        return np.where(instant, self.holds(end_s), shares)


def closed_window(frame: Rows, streams: float) -> Window | None:
    """Return the window in which a closed loop held its streams; None where it never did.

    It begins when every stream has ended its first request: until then the load is its own start.
    It ends when the first stream finds no more work.
    """
    order = np.lexsort((frame["t_scheduled_s"], frame["stream_index"]))
    stream, end_s = frame["stream_index"][order], frame["t_end_s"][order]
    begins = np.flatnonzero(np.diff(stream, prepend=-1))  # each stream's first request
    if streams <= 0 or begins.size < streams:
        return None
    return _window(float(end_s[begins].max()), float(np.maximum.reduceat(end_s, begins).min()))


def open_window(arrivals_s: Values, ramp_s: float, latency_p95_ms: float | None) -> Window | None:
    """Return the window in which an open loop's requests came at its rate; None where none did.

    It begins a long latency (p95) after the ramp, since until then fewer replies end than requests
    come. It ends with the last measured arrival: later requests aren't measured.
    """
    if arrivals_s.size == 0 or latency_p95_ms is None:
        return None
    return _window(ramp_s + latency_p95_ms / 1000, float(arrivals_s.max()))


def _window(start_s: float, end_s: float) -> Window | None:
    return Window(start_s, end_s) if end_s > start_s else None
