"""Reads wait here to be looked at, stamped already: a burst of requests is timed as it comes.

To answer a request takes a tenth of a millisecond. Were it done at once, the last of 256 that
came together would be stamped 25 ms after it lay in the socket, and the truth would be wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

_TURN_NS = 200_000  # of work between two looks at the sockets


class Intake:
    """Work in order of arrival, a little at each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start with nothing to do."""
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def put(self, work: Callable[[], None]) -> None:
        """Have something done after what came before it."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        until_ns = time.perf_counter_ns() + _TURN_NS
        while self._waiting:
            self._waiting[0]()
            self._waiting.popleft()  # after it: as long as it waits, a turn is due
            if time.perf_counter_ns() >= until_ns:
                break
        if self._waiting:
            self._loop.call_soon(self._turn)
