"""The steady window: the part of a run in which the load was held, without start-up and drain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .in_flight import InFlight
from .statistics import Values

# Below it a closed loop hasn't reached its load yet, or is running out of requests. Not 1, since
# a stream that has sent its last request is idle while the others go on.
HELD_SHARE = 0.95


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


def closed_window(flight: InFlight | None, streams: float) -> Window | None:
    """Return the window in which a closed loop held its streams; None where it never did.

    It lasts from the first moment that 95 % of them are busy to the last such moment: a stream's
    short pause between two requests doesn't end it.
    """
    if flight is None or streams <= 0:
        return None
    begins_s, ends_s = flight.spells(HELD_SHARE * streams)
    held = begins_s.size and ends_s[-1] > begins_s[0]
    return Window(float(begins_s[0]), float(ends_s[-1])) if held else None


def open_window(arrivals_s: Values, ramp_s: float, latency_p50_ms: float | None) -> Window | None:
    """Return the window in which an open loop's requests came at its rate; None where none did.

    It begins a median latency after the ramp, since until then fewer replies end than requests
    come. It ends with the last measured arrival: later requests aren't measured.
    """
    if arrivals_s.size == 0 or latency_p50_ms is None:
        return None
    start_s, end_s = ramp_s + latency_p50_ms / 1000, float(arrivals_s.max())
    return Window(start_s, end_s) if end_s > start_s else None
