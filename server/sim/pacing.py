"""Exact mode: every stream's tokens at deadlines of their own, whatever the load.

One heap holds the next deadline of each stream and one timer waits for the
earliest. All that is due goes out in one pass. A deadline counts from the
request's last byte, never from the token before, so lateness doesn't add up.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time

from .answers import Choice
from .engine.engine import EngineState
from .engine.timer import precise_timer
from .wire.settings import ExactPace

# Of work in one pass before the loop looks at its sockets again; an answer's end is the
# longest piece, so tokens alone are no measure.
_PASS_NS = 200_000


class ExactPacing:
    """Makes tokens at absolute times."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: ExactPace, seed: int) -> None:
        """Start with no streams."""
        self._pace = pace
        self._seed = seed
        self._heap: list[tuple[int, int, Choice]] = []
        self._streams = 0  # so far; breaks ties in order of arrival
        self._timer = precise_timer(loop, self._fire)

    def start(self, choice: Choice) -> None:
        """Set a choice's first deadline."""
        choice.started(0, choice.answer.caller.received_ns)
        self._streams += 1
        entry = (self._deadline(choice, self._streams), self._streams, choice)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._timer.arm(entry[0])

    def stop(self, choice: Choice) -> None:
        """Nothing to do: a stream that is over is dropped when its deadline comes."""

    def _deadline(self, choice: Choice, order: int) -> int:
        pace = self._pace
        due = choice.answer.caller.received_ns + pace.ttft_ns + choice.made * pace.itl_ns
        if pace.jitter_ns:
            # By stream and token, not by who was due first: the same in every run.
            draw = random.Random((self._seed << 80) ^ (order << 32) ^ choice.made)
            due += draw.randint(-pace.jitter_ns, pace.jitter_ns)
        return due

    def state(self) -> EngineState:
        """Return what /metrics tells of an engine: here there is none, and nothing waits."""
        return EngineState()

    def reset_prefix_cache(self) -> bool:
        """Say that nothing is cached: there is no cache."""
        return True

    def _fire(self) -> None:
        heap = self._heap
        now_ns = time.perf_counter_ns()
        until_ns = now_ns + _PASS_NS
        while heap and heap[0][0] <= now_ns < until_ns:
            # Out of the heap first: the end of an answer may start the next one, right here.
            _, order, choice = heapq.heappop(heap)
            if choice.answer.over:
                continue
            choice.token()
            if choice.made < choice.length and not choice.answer.over:
                heapq.heappush(heap, (self._deadline(choice, order), order, choice))
            now_ns = time.perf_counter_ns()  # what fell due meanwhile goes out in this pass too
        if heap:
            self._timer.arm(heap[0][0])
