"""Machines are asked for their clocks: often before and after a run, and some times each second.

One thread asks them all. These pings are also the sign of life between the head and the foremen.
"""

from __future__ import annotations

import math
import select
import threading
import time
from array import array
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast

from ...crew.inbox import Inbox
from ...crew.worker import FROZEN_S
from .line import ping
from .track import Track

EVERY_S = 0.3
BURST = 50  # pings before and after a run
PACE_S = 0.00025  # between the pings of a burst, for each machine: they don't wait for one another
MOST_OPEN = math.ceil(FROZEN_S / EVERY_S) + 1  # pings without an answer: it is frozen
MS = 1e6  # in ns


class MachineClock:
    """The monotonic clock of a machine (its `perf_counter_ns`) against this one's."""

    def __init__(self, pipe: Pipe) -> None:
        """Ask over this connection, where a foreman answers."""
        self.track = Track()
        self.due_s = 0.0  # when to ask next
        self.burst = 0  # pings that are wanted at once
        self.answered = 0  # pings, so far
        self.closed = False
        self.fd = pipe.fileno()
        self._pipe, self._inbox = pipe, Inbox(pipe)
        self._lock = threading.Lock()  # nobody reads from what was closed
        self._asked: dict[int, int] = {}  # the pings under way, and when they left
        self._number = 0
        self._trips_ns = array("q")

    def to_ours(self, theirs_ns: int) -> int:
        """Return an instant of its clock by ours."""
        return self.track.ours(theirs_ns)

    def to_theirs(self, ours_ns: int) -> int:
        """Return an instant of our clock, near now, by its own."""
        return self.track.theirs(ours_ns)

    @property
    def answers(self) -> bool:
        """Whether it has told its time, and still does."""
        return self.track.known and not self.closed and not self.frozen()

    def frozen(self) -> bool:
        """Return whether it has answered nothing for as long as nobody may be silent."""
        return len(self._asked) >= MOST_OPEN

    def begin(self) -> None:
        """From now on facts are of the run that begins."""
        self._trips_ns = array("q")
        self.track.begin(time.perf_counter_ns())

    def facts(self) -> dict[str, Any]:
        """Return what the run's JSON says of it."""
        if not self.track.known:
            return {"offset_ms": None, "offset_error_ms": None, "drift_ppm": None, "ping_ms": None}
        now_ns, line = time.perf_counter_ns(), self.track.line
        return {
            "offset_ms": round(line.offset_at(now_ns) / MS, 4),
            "offset_error_ms": round(self.track.error_ns(now_ns) / MS, 4),
            "drift_ppm": None if line.drift is None else round(line.drift * 1e6, 2),
            "ping_ms": _spread(sorted(self._trips_ns)),
        }

    def ask(self, now_s: float) -> None:
        """Send a ping; the connection has room."""
        self.due_s = now_s + EVERY_S
        with self._lock:
            if self.closed or len(self._asked) >= MOST_OPEN:
                return
            self._number += 1
            self._asked[self._number] = time.perf_counter_ns()
            try:
                self._pipe.send(self._number)
            except OSError:
                self.closed = True  # it ended; its other connections tell how

    def hear(self, pace_s: float) -> None:
        """Take the answers that have come."""
        with self._lock:
            answers = [] if self.closed else self._inbox.take()
            got_ns = time.perf_counter_ns()
        if answers is None:
            self.closed = True
        for answer in answers or ():
            number, theirs_ns = cast("tuple[int, int]", answer)
            sent_ns = self._asked.pop(number)
            self.track.add(ping(sent_ns, theirs_ns, got_ns))
            self._trips_ns.append(got_ns - sent_ns)
            self.answered += 1
            if self.burst:
                self.burst -= 1
                self.due_s = time.monotonic() + pace_s

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self.closed = True
            self._pipe.close()


def _spread(trips_ns: Sequence[int]) -> dict[str, float] | None:
    if not trips_ns:
        return None
    p99 = trips_ns[round(0.99 * (len(trips_ns) - 1))]
    return {"fastest": round(trips_ns[0] / MS, 4), "p99": round(p99 / MS, 4)}


class Pings:
    """The thread that asks machines for their clocks, until all are closed."""

    def __init__(self, clocks: Sequence[MachineClock]) -> None:
        """Begin, each a little after the one before."""
        self._clocks = clocks
        self._pace_s = PACE_S * len(clocks)
        now_s = time.monotonic()
        for place, clock in enumerate(clocks):
            clock.due_s = now_s + EVERY_S * place / len(clocks)
        threading.Thread(target=self._go_round, name="pings", daemon=True).start()

    def burst(self, limit_s: float) -> None:
        """Ask all of them many times, and wait for the answers, but no longer than this."""
        for clock in self._clocks:
            clock.burst, clock.due_s = BURST, time.monotonic()
        give_up_s = time.monotonic() + limit_s
        while time.monotonic() < give_up_s:
            if not any(clock.burst and not clock.closed for clock in self._clocks):
                break
            time.sleep(self._pace_s)
        for clock in self._clocks:
            clock.burst = 0

    def _go_round(self) -> None:
        room = select.poll()
        left = {clock.fd: clock for clock in self._clocks if not clock.closed}
        for fd in left:
            room.register(fd, select.POLLIN)
        while left:
            now_s = time.monotonic()
            for clock in left.values():
                if clock.due_s <= now_s:
                    clock.ask(now_s)
            wait_s = min(clock.due_s for clock in left.values()) - time.monotonic()
            for fd, _ in room.poll(max(0.0, 1000 * wait_s)):
                left[fd].hear(self._pace_s)
            for fd in [fd for fd, clock in left.items() if clock.closed]:
                room.unregister(fd)
                del left[fd]
