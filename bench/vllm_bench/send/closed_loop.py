"""A closed loop: a fixed number of streams; each sends again as soon as its last reply ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ..plan.share import PlannedRequest
from ..reply.exchange import Exchange
from .lanes import Lane, Lanes
from .timer import in_background, sleep_until

REOPEN_NS = 250_000_000  # before a send is due: time to replace a connection that was idle long


async def connected_by(lanes: Lanes, lane: Lane, due_ns: int) -> None:
    """Return at an instant, with a connection of the lane that the server won't close just then."""
    await sleep_until(due_ns - REOPEN_NS)
    if not lane.fresh(time.perf_counter_ns() + REOPEN_NS):
        if lane.turned_away:  # then to open one is part of the request
            lane.close()
        else:
            await lanes.open(lane)
    await sleep_until(due_ns)


class ClosedLoop:
    """Every lane is a stream, which sends something new when its last reply has ended."""

    def __init__(
        self,
        lanes: Lanes,
        take: Callable[[], PlannedRequest | None],
        begins_ns: Sequence[int] = (),
    ) -> None:
        """`take` gives the next request; None: no more.

        `begins_ns`: when each lane begins, from the start; none: all of them at once.
        """
        self._lanes = lanes
        self._take = take
        self._begins_ns = begins_ns
        self._stopping = False
        self._over = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()  # until their streams are due
        lanes.on_free = self._freed

    async def run(self, start_ns: int) -> None:
        """Send from `start_ns` on; return when the last reply has ended."""
        if not self._begins_ns:
            await sleep_until(start_ns)
        watching: set[asyncio.Task[None]] = set()
        in_background(self._lanes.watch_deadlines(), watching)
        for place, lane in enumerate(self._lanes):
            if self._begins_ns:
                self._later(lane, start_ns + self._begins_ns[place])
            else:
                self._begin(lane, start_ns)
        self._end_if_idle()
        await self._over.wait()
        for task in watching:
            task.cancel()

    def stop(self, *, cut_off: bool) -> None:
        """Stop sending new requests and, if asked, cut off those in flight."""
        self._stopping = True
        for task in self._waiting:
            task.cancel()
        self._waiting.clear()
        if cut_off:
            self._lanes.cut_off()
        self._end_if_idle()

    def _begin(self, lane: Lane, slot_ns: int) -> None:
        """Send the next request on a free lane, if there is one and sending wasn't stopped."""
        request = None if self._stopping else self._take()
        if request is not None:
            self._lanes.send(lane, request, slot_ns)

    def _later(self, lane: Lane, due_ns: int) -> None:
        """Begin when a lane is due. Without effect once sending was stopped."""
        if not self._stopping:
            in_background(self._wait_and_begin(lane, due_ns), self._waiting)

    async def _wait_and_begin(self, lane: Lane, due_ns: int) -> None:
        await connected_by(self._lanes, lane, due_ns)
        # Removed here and not at the task's end: a reply may come before that, and the loop would
        # then wait forever for a stream that seems to be waiting.
        self._waiting.discard(asyncio.current_task())
        self._begin(lane, due_ns)
        self._end_if_idle()

    def _freed(self, lane: Lane, exchange: Exchange, freed_ns: int) -> None:
        """Begin now, or once a refused request's wait is over."""
        wait_ns = lane.wait_ns(exchange)
        lane.waited_ns = wait_ns
        if wait_ns:
            self._later(lane, freed_ns + wait_ns)
        else:
            self._begin(lane, freed_ns)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._lanes.in_flight == 0 and not self._waiting:
            self._over.set()
