"""When tokens come: in exact mode at each stream's deadlines, else when the engine's steps end."""

from __future__ import annotations

import asyncio
import heapq
import random
import time

from .choice import Choice
from .engine.engine import Engine, EngineConfig, EngineState
from .engine.step import EngineRequest, Step
from .engine.timer import precise_timer
from .faults import STAND_STILL_EVERY_S
from .wire.settings import ExactPace

# Most work in one pass before the loop checks its sockets again. It is measured in time and not
# in tokens, since the end of an answer takes longest.
_PASS_NS = 200_000
PERIOD_NS = round(STAND_STILL_EVERY_S * 1e9)


class Pauses:
    """A server that stands still: nothing happens in the last part of each period of 10 s."""

    def __init__(self, pause_s: float = 0.0, since_ns: int | None = None) -> None:
        """Count periods from a moment, or from now; without a pause, nothing waits."""
        self._since_ns = time.perf_counter_ns() if since_ns is None else since_ns
        self._awake_ns = PERIOD_NS - round(pause_s * 1e9)

    def wait(self, due_ns: int) -> int:
        """Return when that happens which is due at a moment: then, or at the pause's end."""
        into_ns = (due_ns - self._since_ns) % PERIOD_NS
        return due_ns if into_ns < self._awake_ns else due_ns - into_ns + PERIOD_NS


class ExactPacing:
    """Exact mode: every stream's tokens have their own deadlines, whatever the load.

    One heap has the next deadline of each stream and one timer waits for the earliest. All
    that is due is sent in one pass. A deadline counts from the request's last byte, never from
    the token before, so lateness doesn't add up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pace: ExactPace,
        seed: int,
        pauses: Pauses | None = None,
    ) -> None:
        self.pace = pace
        self._pauses = pauses or Pauses()
        self._seed = seed
        self._heap: list[tuple[int, int, Choice]] = []
        self._streams = 0  # so far; equal deadlines go in order of arrival
        self._timer = precise_timer(loop, self._fire)

    def start(self, choice: Choice) -> None:
        """Set a choice's first deadline."""
        choice.started(0, choice.received_ns)
        self._streams += 1
        entry = (self._deadline(choice, self._streams), self._streams, choice)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._timer.arm(entry[0])

    def stop(self, choice: Choice) -> None:
        """Do nothing: a choice that has ended is dropped when its deadline comes."""

    def state(self) -> EngineState:
        """Return an empty state: there is no engine, and nothing waits."""
        return EngineState()

    def _deadline(self, choice: Choice, order: int) -> int:
        pace = self.pace
        due = choice.received_ns + pace.ttft_ns + choice.made * pace.itl_ns
        if pace.jitter_ns:
            # Sorted by stream and token, not by deadline: the same in every run.
            draw = random.Random((self._seed << 80) ^ (order << 32) ^ choice.made)
            due += draw.randint(-pace.jitter_ns, pace.jitter_ns)
        return self._pauses.wait(due)

    def _fire(self) -> None:
        heap = self._heap
        now_ns = time.perf_counter_ns()
        until_ns = now_ns + _PASS_NS
        while heap and heap[0][0] <= now_ns < until_ns:
            # First out of the heap: the end of an answer may start the next one in this call.
            _, order, choice = heapq.heappop(heap)
            if choice.over:
                continue
            choice.token()
            if choice.made < choice.length and not choice.over:
                heapq.heappush(heap, (self._deadline(choice, order), order, choice))
            now_ns = time.perf_counter_ns()  # what became due meanwhile is sent in this pass too
        if heap:
            self._timer.arm(heap[0][0])


class EnginePacing:
    """Batching mode: the engine decides in simulated time; this class sends at those times.

    A step begins when the one before it ends in the engine's time, not when the loop handled it. So
    if the machine is late, single tokens are late, but the run isn't.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, config: EngineConfig, pauses: Pauses | None = None
    ) -> None:
        self.pace = config
        self._engine = Engine(config)
        self._pauses = pauses or Pauses()
        self._timer = precise_timer(loop, self._step_ended)
        self._choices: dict[str, Choice] = {}
        self._ids: dict[Choice, str] = {}
        self._requests = 0  # so far; each gets a unique id, whatever id its client sent
        self._step: Step | None = None
        self._end_ns = 0  # of the current step

    def start(self, choice: Choice) -> None:
        """Queue a choice; an idle engine takes it at once."""
        self._requests += 1
        name = str(self._requests)
        self._choices[name] = choice
        self._ids[choice] = name
        ask = choice.ask
        self._engine.add(
            EngineRequest(
                *(name, ask.prompt, choice.length, ask.cache_salt),
                priority=ask.priority,
                adapter=ask.adapter,
            )
        )
        if self._step is None:
            self._begin_step(time.perf_counter_ns())

    def stop(self, choice: Choice) -> None:
        """Free the blocks of a choice."""
        name = self._ids.pop(choice, None)
        if name is not None:
            del self._choices[name]
            self._engine.abort(name)

    def state(self) -> EngineState:
        """Return what /metrics shows of the engine."""
        return self._engine.state()

    def _begin_step(self, now_ns: int) -> None:
        step = self._step = self._engine.step()
        if step is None:
            return
        for name in step.started:
            choice = self._choices[name]
            # If the loop is late, a request joins a step that began before it came.
            choice.started(step.cached_tokens[name], max(now_ns, choice.received_ns))
        self._end_ns = self._pauses.wait(now_ns + round(step.duration_s * 1e9))
        self._timer.arm(self._end_ns)

    def _step_ended(self) -> None:
        step = self._step
        if step is None:
            return
        for name in step.tokens:
            choice = self._choices.get(name)
            if choice is None:  # its client left during the step
                continue
            if choice.made + 1 == choice.length:
                del self._choices[name], self._ids[choice]
            choice.token()
        self._begin_step(self._end_ns)
