"""A machine's times in one run, on the head's clock: the one place where they are translated."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...crew.judged import Judged
from ...plan.share import NS_PER_S
from ...records.request_record import RequestRecord
from ...records.row import replaced
from ...send.outbox import Finished, Go, Pulse
from ...wire.clock import ClockFacts
from ..messages import Correction
from .line import DOUBT
from .pings import MS, MachineClock

CORRECT_S = 10.0  # between two corrections


class Timeline:
    """Turns the head's times into a machine's, in orders, and back, in what it says of the run."""

    def __init__(self, clock: MachineClock) -> None:
        self._clock = clock
        self._start_ns: int | None = None  # of the run, by the head's clock
        self._their_start_ns = 0  # as the machine was told it
        self._corrected_s = 0.0
        self._eased = Eased()
        # When its first request was due (s), and how late it was sent (ms).
        self._first = float("inf"), 0.0

    def theirs(self, order: object) -> object:
        """Return an order with its instant by the machine's clock."""
        if not isinstance(order, Go):
            return order
        self._clock.begin()
        self._start_ns = order.start_ns
        self._their_start_ns = self._clock.to_theirs(order.start_ns)
        return replace(order, start_ns=self._their_start_ns)

    def ours(self, message: object) -> object:
        """Return what a machine says with its instants by the head's clock."""
        if isinstance(message, tuple):
            return tuple(map(self.ours, message))
        if isinstance(message, Judged):
            return self._judged(message)
        if isinstance(message, Pulse):
            return replace(message, at_ns=self._clock.to_ours(message.at_ns))
        return self._finished(message) if isinstance(message, Finished) else message

    def _judged(self, one: Judged) -> Judged:
        """Move a request as a whole: its durations stay those that its machine measured."""
        if self._start_ns is None or one.role != "measured":
            return one
        self._note_first(one.record)
        return moved(one, self._eased_ns)

    def _eased_ns(self, at_ns: int) -> int:
        stretch = self._clock.track.stretch(self._their_start_ns + at_ns)
        return self._eased.followed(at_ns, self._shift_ns(at_ns), stretch)

    def _shift_ns(self, at_ns: int) -> int:
        """Return how much later an instant was by the head's clock, from the start of each."""
        assert self._start_ns is not None
        return self._clock.to_ours(self._their_start_ns + at_ns) - self._start_ns - at_ns

    def _note_first(self, row: RequestRecord) -> None:
        if row.send_lag_ms is not None and row.t_scheduled_s < self._first[0]:
            self._first = row.t_scheduled_s, row.send_lag_ms

    def _finished(self, last: Finished) -> Finished:
        """Take the wall clock, too, from the head: two that differ would look like a step."""
        end_ns = self._clock.to_ours(last.end_ns)
        wall_s = time.time() - (time.perf_counter_ns() - end_ns) / NS_PER_S
        return replace(last, end_ns=end_ns, wall_s=wall_s, clock=self._facts(last.clock))

    def _facts(self, of: ClockFacts) -> ClockFacts:
        if of.own_since_ns is None:
            return of
        return replace(of, own_since_ns=self._clock.to_ours(of.own_since_ns))

    def correction(self) -> Correction | None:
        """Return how its times become the head's, for rows that it keeps; None: it knows."""
        now_s = time.monotonic()
        if self._start_ns is None or now_s - self._corrected_s < CORRECT_S:
            return None
        self._corrected_s = now_s
        since_ns = time.perf_counter_ns() - self._start_ns
        shift_ns = self._shift_ns(0)
        if since_ns < CORRECT_S * NS_PER_S:  # two pings so close tell no drift
            return Correction(-shift_ns)
        return Correction(-shift_ns, (shift_ns - self._shift_ns(since_ns)) / since_ns)

    def facts(self) -> dict[str, Any]:
        """Return what the run's JSON says of the machine's clock."""
        found = {**self._clock.facts(), "start_apart_ms": None}
        if self._start_ns is not None and self._clock.track.known:
            apart_ms = self._shift_ns(0) / MS + self._first[1]
            found["start_apart_ms"] = round(apart_ms, 4)
        return found


class Eased:
    """Follows a shift without jumps: what was sent after an end stays after it.

    A better ping tells where a clock is by some 0.1 ms, at once; between two requests of a stream
    lies less. It is believed as fast as clocks may part: the shift is between the two meanwhile,
    and no more wrong than the worse of them.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None  # the latest instant, its shift, its stretch

    def followed(self, at_ns: int, shift_ns: int, stretch: int) -> int:
        """Return the shift at an instant; in another stretch (a clock stood still) as it is."""
        if self._last is not None and self._last[2] == stretch:
            last_at_ns, last_ns, _ = self._last
            room_ns = round(DOUBT * abs(at_ns - last_at_ns))
            shift_ns = min(max(shift_ns, last_ns - room_ns), last_ns + room_ns)
        if self._last is None or at_ns >= self._last[0]:
            self._last = at_ns, shift_ns, stretch
        return shift_ns


def moved(one: Judged, later_ns: Callable[[int], int]) -> Judged:
    """Move a request as a whole, by what its middle is later: its durations stay as they are."""
    row, (stamps, events, tokens) = one.record, one.reads
    begun_s = row.t_scheduled_s if row.t_sent_s is None else row.t_sent_s
    shift_ns = later_ns(round((begun_s + row.t_end_s) / 2 * NS_PER_S))
    shift_s = shift_ns / NS_PER_S
    record = replaced(
        row,
        t_scheduled_s=row.t_scheduled_s + shift_s,
        t_sent_s=None if row.t_sent_s is None else row.t_sent_s + shift_s,
        t_end_s=row.t_end_s + shift_s,
    )
    reads = _later(stamps, shift_ns), events, tokens
    return replaced(one, record=record, reads=reads)


def _later(stamps: array[int], shift_ns: int) -> array[int]:
    import numpy as np

    if not stamps:
        return stamps
    return array("q", (np.frombuffer(stamps, dtype=np.int64) + shift_ns).tobytes())
