"""An open loop: each request goes at its time, without waiting for earlier ones.

Arrivals wait only for `max_in_flight`, if it is set. A request that waits for it keeps its
scheduled time, so that the wait shows as send lag. Connections are opened in advance, since the
number of requests in flight can't be known.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from ..plan.share import PlannedRequest
from ..reply.exchange import Exchange
from .lanes import Lane, Lanes
from .timer import PreciseTimer, in_background

TEND_S = 0.1
# Then the loop handles replies and orders: at a rate that is too high for the process, it would
# otherwise have no time for them until the schedule's end.
AT_ONCE = 256


class OpenLoop:
    """The arrivals of one sending process."""

    def __init__(
        self,
        lanes: Lanes,
        requests: Sequence[PlannedRequest],
        due_ns: Sequence[int],
        most_in_flight: int | None,
    ) -> None:
        """Send each request at its time; keep as many lanes ready as there are now."""
        self._lanes = lanes
        self._idle = deque(lanes)
        self._spare = len(self._idle)
        self._shut: list[Lane] = []  # without a connection
        self._opening: set[asyncio.Task[None]] = set()
        self._most = most_in_flight
        self._waiting: deque[tuple[int, PlannedRequest]] = deque()  # for max_in_flight
        self._requests, self._due_ns = requests, due_ns
        self._next = 0
        self._start_ns = 0
        self._stopping = False
        self._over = asyncio.Event()
        lanes.on_free = self._freed

    async def run(self, start_ns: int) -> None:
        """Send each arrival at its time; return when all have ended."""
        self._start_ns = start_ns
        timer = PreciseTimer(asyncio.get_running_loop(), lambda: self._send_due(timer))
        watchers: set[asyncio.Task[None]] = set()
        in_background(self._lanes.watch_deadlines(), watchers)
        in_background(self._tend(), watchers)
        self._send_due(timer)
        await self._over.wait()
        for task in watchers:
            task.cancel()
        timer.close()

    def stop(self, *, cut_off: bool) -> None:
        """Send no further arrivals and, if asked, cut off requests in flight."""
        self._stopping = True
        self._waiting.clear()
        if cut_off:
            self._lanes.cut_off()
        self._end_if_done()

    def _send_due(self, timer: PreciseTimer) -> None:
        pause_at = self._next + AT_ONCE
        while not self._stopping and self._next < len(self._requests):
            request = self._requests[self._next]
            due_ns = self._start_ns + self._due_ns[self._next]
            if self._next == pause_at or time.perf_counter_ns() < due_ns:
                timer.arm(due_ns)
                return
            self._next += 1
            self._arrive(request, due_ns)
        self._end_if_done()

    def _arrive(self, request: PlannedRequest, due_ns: int) -> None:
        if self._most is not None and self._lanes.in_flight >= self._most:
            self._waiting.append((due_ns, request))
        else:
            self._lanes.send(self._lane(), request, due_ns)

    def _lane(self) -> Lane:
        # In turns, so that no connection is idle for so long that the server closes it.
        now_ns = time.perf_counter_ns()
        while self._idle:
            lane = self._idle.popleft()
            if lane.fresh(now_ns):
                return lane
            self._shut_down(lane)
        return self._without_connection()

    def _freed(self, lane: Lane, _exchange: Exchange, _freed_ns: int) -> None:
        self._idle.append(lane)
        if self._waiting and not self._stopping:
            due_ns, request = self._waiting.popleft()
            self._lanes.send(self._lane(), request, due_ns)
        self._end_if_done()

    async def _tend(self) -> None:
        """Keep some connections ready, but none that the server may close at any moment."""
        while True:
            await asyncio.sleep(TEND_S)
            now_ns = time.perf_counter_ns()
            for lane in [lane for lane in self._idle if not lane.fresh(now_ns)]:
                self._idle.remove(lane)
                self._shut_down(lane)
            # Well above what is kept ready: changes of load then open and close nothing.
            while len(self._idle) > 2 * self._spare:
                self._shut_down(self._idle.popleft())
            for _ in range(self._missing()):
                in_background(self._open(self._without_connection()), self._opening)

    def _shut_down(self, lane: Lane) -> None:
        lane.close()
        self._shut.append(lane)

    def _without_connection(self) -> Lane:
        return self._shut.pop() if self._shut else self._lanes.add()

    def _missing(self) -> int:
        spare = self._spare
        if self._most is not None:
            spare = min(spare, self._most - self._lanes.in_flight)
        return spare - len(self._idle) - len(self._opening)

    async def _open(self, lane: Lane) -> None:
        problem = await self._lanes.open(lane)
        (self._idle if problem is None else self._shut).append(lane)

    def _end_if_done(self) -> None:
        sent_all = self._stopping or (self._next >= len(self._requests) and not self._waiting)
        if sent_all and self._lanes.in_flight == 0:
            self._over.set()
