"""How many requests were in flight at each moment: exact, from their starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import Values
from ..stats.distribution import filled
from .window import Window, last_send_s, waits_on

SEND_LAG_FLOOR_MS = 2.0  # a busy loop's scheduling costs up to this; shorter lags don't matter


@dataclass(frozen=True, eq=False)
class InFlight:
    """Requests in flight from the first start to the last end: `levels[i]` from `times_s[i]`."""

    times_s: Values
    levels: NDArray[np.int64]

    @property
    def peak(self) -> int:
        return int(self.levels.max())

    @property
    def mean(self) -> float:
        return self.mean_between(float(self.times_s[0]), float(self.times_s[-1]))

    def mean_between(self, start_s: float, end_s: float) -> float:
        """Return the average between two moments; the second is later."""
        areas = np.interp([start_s, end_s], self.times_s, self._areas)
        return float(areas[1] - areas[0]) / (end_s - start_s)

    def at(self, time_s: float) -> int:
        """Return how many there were at a moment."""
        place = int(np.searchsorted(self.times_s, time_s, side="right")) - 1
        return int(self.levels[place]) if place >= 0 else 0

    @cached_property
    def _areas(self) -> Values:
        """Request-seconds up to each of the times."""
        steps = self.levels[:-1] * np.diff(self.times_s)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def spells(self, level: float) -> tuple[Values, Values]:
        """Return when `level` was reached, each time, and when it was left again."""
        reached = (self.levels >= level).astype(np.int8)
        edges = np.diff(reached, prepend=0)
        return self.times_s[edges > 0], self.times_s[edges < 0]


def in_flight(frame: Rows) -> InFlight | None:
    """Return the requests in flight over a run; None where none took any time."""
    return _sweep(frame["t_sent_s"], frame["t_end_s"])


def without_first_token(frame: Rows) -> InFlight | None:
    """Return the requests that were due and had no token yet, those in the client's queue too.

    One that never got a token waited until its end.
    """
    first_s = frame["t_sent_s"] + frame["ttft_ms"] / 1000
    return _sweep(frame["t_scheduled_s"], filled(first_s, frame["t_end_s"]))


def waiting_share(frame: Rows, window: Window) -> float:
    """Return the share of a window in which a request was in flight without its first token."""
    first_s = frame["t_sent_s"] + frame["ttft_ms"] / 1000
    waiting = _sweep(frame["t_sent_s"], filled(first_s, frame["t_end_s"]))
    if waiting is None:
        return 0.0
    begins, ends = waiting.spells(1)
    inside = np.minimum(ends, window.end_s) - np.maximum(begins, window.start_s)
    return float(np.clip(inside, 0.0, None).sum()) / window.length_s


def busy_streams(frame: Rows, until_s: float | None = None) -> InFlight | None:
    """Return the streams of a closed loop that the client kept busy; None as above.

    `until_s`: the last send of the run; None: of these rows.

    A stream is busy from a send until its next request is due: the bytes after the event that ended
    a reply are the server's time, and the think time before a conversation's next turn is part of
    the load. After that, a wait is the client's. A session whose next turn still waited when the
    run ended held its stream until the last send.
    """
    rows = frame.of(np.lexsort((frame["t_scheduled_s"], frame["stream_index"])))
    last = np.diff(rows["stream_index"], append=-1) != 0  # of its stream
    next_due_s = np.append(rows["t_scheduled_s"][1:], np.nan)
    ends_s = np.where(last, rows["t_end_s"], next_due_s)
    held = last & waits_on(rows)
    ends_s[held] = np.maximum(ends_s[held], last_send_s(rows) if until_s is None else until_s)
    return _sweep(rows["t_sent_s"], ends_s)


def _sweep(starts: Values, ends: Values) -> InFlight | None:
    begun = ~np.isnan(starts)
    sent, ended = starts[begun], ends[begun]
    times = np.concatenate([sent, ended])
    steps = np.repeat([1, -1], sent.size)
    # If an end and a start are at the same instant, the end comes first: it freed the slot.
    order = np.lexsort((steps, times))
    times, levels = times[order], np.cumsum(steps[order])
    if times.size == 0 or times[-1] <= times[0]:
        return None
    return InFlight(times, levels)


def as_if_alone(frame: Rows, place: int, of: int) -> Rows:
    """Return a class's rows with its lanes numbered as if there were no other classes."""
    if of == 1:
        return frame
    return Rows({**frame.columns, "stream_index": (frame["stream_index"] - place) // of})


def waited_for_cap(frame: Rows, cap: int, processes: int) -> NDArray[np.bool_]:
    """Return, one value per row, whether a request waited for the cap, not for a late client.

    Sending processes share the cap evenly, and number their connections in turns: a request can
    wait for its own process's share while others have room.
    """
    due = frame["t_scheduled_s"]
    gone = filled(frame["t_sent_s"], frame["t_end_s"])
    process = frame["stream_index"] % processes
    waited: NDArray[np.bool_] = 1000 * (gone - due) > SEND_LAG_FLOOR_MS
    for number in range(processes):
        mine = process == number
        flight = in_flight(frame.of(mine))
        if flight is None:
            waited[mine] = False
            continue
        begins, ends = flight.spells(len(range(number, cap, processes)))
        # The first time at the cap that ends after a request was due: it must begin before the
        # request was sent.
        place = np.searchsorted(ends, due[mine], side="right")
        waited[mine] &= np.append(begins, np.inf)[place] < gone[mine]
    return waited
