"""A closed loop: a fixed number of streams; each sends again as soon as its last reply ended."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from ..plan.share import PlannedRequest
from ..reply.exchange import Exchange
from .lanes import Lane, Lanes
from .timer import sleep_until


class Streams(ABC):
    """Every lane is a stream, which sends something new when its last reply has ended."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._stopping = False
        self._over = asyncio.Event()
        lanes.on_free = self._freed

    async def run(self, start_ns: int) -> None:
        """Send from `start_ns` on; return when the last reply has ended."""
        await sleep_until(start_ns)
        watching = asyncio.ensure_future(self._lanes.watch_deadlines())
        for lane in self._lanes:
            self._begin(lane, start_ns)
        self._end_if_idle()
        await self._over.wait()
        watching.cancel()

    def stop(self, *, cut_off: bool) -> None:
        """Stop sending new requests and, if asked, cut off those in flight."""
        self._stopping = True
        if cut_off:
            self._lanes.cut_off()
        self._end_if_idle()

    @abstractmethod
    def _begin(self, lane: Lane, slot_ns: int) -> None:
        """Send the next request on a free lane, if there is one and sending wasn't stopped."""

    def _freed(self, lane: Lane, _exchange: Exchange, freed_ns: int) -> None:
        self._begin(lane, freed_ns)
        self._end_if_idle()

    def _idle(self) -> bool:
        return self._lanes.in_flight == 0

    def _end_if_idle(self) -> None:
        if self._idle():
            self._over.set()


class ClosedLoop(Streams):
    """Each stream sends its next request as soon as its last reply has ended."""

    def __init__(self, lanes: Lanes, take: Callable[[], PlannedRequest | None]) -> None:
        """`take` gives the next request; None: no more."""
        super().__init__(lanes)
        self._take = take

    def _begin(self, lane: Lane, slot_ns: int) -> None:
        request = None if self._stopping else self._take()
        if request is not None:
            self._lanes.send(lane, request, slot_ns)
