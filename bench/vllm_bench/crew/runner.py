"""Runs one plan: starts who sends it, reads their results, ends them in time.

This is the parent's side. It is off the timing path: if it is late, no stamp changes. Rows are on
disk within a fraction of a second.
"""

from __future__ import annotations

import time
from contextlib import closing
from multiprocessing.connection import wait
from typing import Any

from ..live.counts import Counts
from ..live.progress import Progress, progress_of
from ..plan.plan import Plan
from ..plan.share import NS_PER_S
from ..records.run_info import ClockPair
from ..reply.exchange import Exchange, PackedSegment
from ..send.outbox import Broke, Connected, Drop, Finished, Go, Measured, Pulse, Ready
from .ending import Ending
from .judged import Elsewhere, Judged, Sink
from .result import Course, RunResult, clock_at, clock_now
from .tally import Tally
from .watch import Watch
from .worker import (
    FROZEN_S,
    HURRY_S,
    START_LIMIT_S,
    WORD_S,
    AwakeClock,
    Crew,
    CrewMaker,
    RunError,
    Worker,
)

POLL_S = 0.2  # rows wait at most this long to be written
GATHER_S = 0.01  # messages gather: to wake up for one takes longer than to read it
GRACE_S = 5.0  # for what is under way of a run that has broken


def run_plan(plan: Plan, sink: Sink, made_crew: CrewMaker, watch: Watch) -> RunResult:
    """Run the plan, and hand each request that has ended to the sink, which is closed at the end.

    Raises RunError where a worker can't start, OSError where files can't be written,
    KeyboardInterrupt where a signal comes before there is anything to lose; later ones are only
    counted, and end the run.
    """
    # The sink first and last: while the rows' file is open, the run doesn't look like a killed one.
    with closing(sink), made_crew(plan, watch.interrupts) as crew:
        watch.interrupts.count_from_now_on()
        progress = progress_of(plan, crew.begun, time.perf_counter_ns() / 1e9)
        tally = Tally(plan, progress, sink)
        if watch.above is not None:
            watch.above.manned(crew)
        run = _Run(plan, crew, progress, tally, watch)
        if run.get_ready() and (begun := run.agree()):
            start, how = begun
            watch.on_start(start, how)
            tally.begin(start.monotonic_ns)
            run.begin(start, how)
        return run.follow()


class _Run:
    """One run while it goes on."""

    def __init__(
        self, plan: Plan, crew: Crew, progress: Progress, tally: Tally, watch: Watch
    ) -> None:
        self._plan = plan
        self._crew = crew
        self._progress = progress
        self._tally = tally
        self._watch = watch
        self._measuring = False  # from the start on
        self._working = {worker.results: worker for worker in crew.workers}
        for worker, count in zip(crew.workers, crew.to_measure(), strict=True):
            worker.left = count
        self._has_tail = any(part.has_tail for part in plan.drawn)
        self._connected: list[tuple[Worker, Connected]] = []
        self._ready = 0
        self._awake = AwakeClock()
        self._ending = Ending(plan, progress, self._tell)
        self._course = Course(plan, crew, progress, tally, self._ending, clock_now())
        progress.lost = self._course.lost

    def get_ready(self) -> bool:
        """Wait for connections and for the warm-up; False: the user asked to stop.

        Raises RunError where a worker dies or doesn't come up, KeyboardInterrupt where a signal
        comes before anything was sent.
        """
        workers = len(self._crew.workers)
        while self._ready < workers:
            connecting = len(self._connected) < workers
            self._listen()
            if self._ending.why:
                raise RunError(self._ending.why)
            if self._progress.stopping:
                if connecting:  # nothing was sent
                    raise KeyboardInterrupt
                return False
            if len(self._working) < workers:
                raise RunError(f"{self._course.lost[0]} before the start")
            if connecting and len(self._connected) == workers:
                streams = sum(c.connected for _, c in self._connected)
                self._watch.on_connected(streams, self._crew.reached(self._connected))
                self._note_phase()
            elif connecting and self._awake.s > START_LIMIT_S:
                raise RunError(self._late())
        return True

    def _late(self) -> str:
        there = {worker.name for worker, _ in self._connected}
        late = [worker.name for worker in self._crew.workers if worker.name not in there]
        what = f"not all {self._crew.what} were ready after {START_LIMIT_S:g} s"
        return f"{what}: {', '.join(late[:5])}{', …' if len(late) > 5 else ''}"

    def agree(self) -> tuple[ClockPair, dict[str, Any]] | None:
        """Choose the start, late enough for the order to reach all in time, and give that order.

        The streams of a closed loop begin during a spread. None: the user asked to stop.
        """
        above, how = self._watch.above, dict[str, Any]()
        if above is None:
            how = self._plan.start_facts(self._tally.unmeasured.warmup_latency_s)
            start_ns = time.perf_counter_ns() + int(self._crew.head_start_s * NS_PER_S)
            go = Go(start_ns, int(how.get("start_spread_s", 0.0) * NS_PER_S))
        else:
            above.ready()
            while (told := above.go()) is None:
                self._listen()
                if self._progress.stopping:
                    return None
            go = told
        for worker in self._crew.workers:
            worker.tell(go)
        return clock_at(go.start_ns), how

    def begin(self, start: ClockPair, how: dict[str, Any]) -> None:
        self._course.start, self._course.how, self._measuring = start, how, True
        self._ending.begin()
        self._progress.started_s = start.monotonic_ns / 1e9
        self._progress.phase = ""

    def follow(self) -> RunResult:
        """Receive from the workers until each has finished or died."""
        roomy = all(worker.roomy for worker in self._crew.workers)
        while self._working:
            self._listen()
            if roomy:
                time.sleep(GATHER_S)
        self._collect()
        if self._watch.above is not None:
            self._watch.above.over(self._progress)
        return self._course.result()

    def _collect(self) -> None:
        """Take what has stayed with the workers; a signal from now on leaves it there."""
        interrupts, progress = self._watch.interrupts, self._progress
        asked = interrupts()
        for worker in self._crew.workers:  # from here on rows tell
            progress.phase = "fetching rows" if worker.elsewhere.ended else progress.phase
            progress.put_in(worker.elsewhere, -1)
            worker.elsewhere = Counts()
        progress.recent.count_no_more()
        progress.over = True
        for worker, ended in self._crew.rest(lambda: interrupts() > asked):
            for one in ended:
                self._add(worker, one)
            self._tally.write()
            self._watch.on_progress(progress)
        self._ending.pass_on(interrupts())

    def _listen(self) -> None:
        """Pass on Ctrl-C, and receive what the workers have sent meanwhile."""
        watch = self._watch
        self._ending.pass_on(watch.interrupts())
        for worker in self._working.values():
            if worker.untold:
                worker.tell_rest()
        try:
            for results in wait(list(self._working), POLL_S):
                self._take_all(self._working[results])  # type: ignore[index]
        finally:
            rows = self._tally.write()
        self._ending.if_enough(watch.enough, rows)
        self._ending.if_gone(watch.give_up_s, self._tally.unmeasured.last_error)
        if watch.above is not None and watch.above.draining():
            self._ending.drain()
        self._awake.look()
        self._kill_frozen()
        watch.on_progress(self._progress)

    def _take_all(self, worker: Worker) -> None:
        messages = worker.inbox.take()
        if messages is None:
            self._lose(worker, "died")
            return
        worker.heard_s = self._awake.s
        for message in messages:
            self._take(worker, worker.ours(message))
        if all(sender.lost for sender in worker.senders):
            self._lose(worker, "lost all its sending processes")
        elif all(sender.ended for sender in worker.senders):
            del self._working[worker.results]

    def _kill_frozen(self) -> None:
        """Go on without one that says nothing: it was stopped, or its loop never ends."""
        patience_s = HURRY_S if self._ending.cancelled else FROZEN_S
        since_s = self._awake.s - patience_s - WORD_S
        for worker in list(self._working.values()):
            silent = worker.heard_s is not None and worker.heard_s < since_s
            if silent or worker.frozen():
                worker.kill()
                self._lose(worker, f"said nothing for {patience_s:g} s")

    def _lose(self, worker: Worker, what: str) -> None:
        self._course.lost.append(f"{worker.name} {self._crew.lose(worker, what)}")
        worker.lose()
        if alone := self._crew.alone(worker):
            self._progress.lose(alone, worker.ended)
        del self._working[worker.results]
        worker.left = 0  # nobody sends these: the others needn't wait
        if self._watch.above is not None:
            self._watch.above.hear(self._place(worker), RunError(self._course.lost[-1]))
        self._note_phase()

    def _place(self, worker: Worker) -> int:
        return next(n for n, one in enumerate(self._crew.workers) if one is worker)

    def _take(self, worker: Worker, message: object) -> None:
        """Do what a message asks for."""
        if isinstance(message, tuple):  # the end of a reply: its last segment, and itself
            for part in message:
                self._take(worker, part)
        elif isinstance(message, PackedSegment):
            excess = self._tally.segment(message)
            if excess is not None:
                worker.tell(Drop(message.request_index, excess))
        elif isinstance(message, Exchange):
            self._ended(worker, self._tally.end(message))
        elif isinstance(message, Judged):
            self._add(worker, message)
            self._ended(worker, message)
        elif isinstance(message, Connected):
            worker.senders[0].connected = message.connected
            self._connected.append((worker, message))
        elif isinstance(message, Ready):
            self._ready += 1
        elif isinstance(message, Measured | Elsewhere):
            self._stands(worker, message)
        elif isinstance(message, Pulse | Finished):
            self._hear(worker, message)
        elif isinstance(message, Broke):
            self._break(worker, message)
        else:
            self._crew.take(worker, message)

    def _add(self, worker: Worker, one: Judged) -> None:
        if one.role == "measured":
            worker.rows[self._plan.part(one.record.request_index).place] += 1
        self._tally.add(one, one.stamps)

    def _break(self, worker: Worker, message: Broke) -> None:
        what = f"{worker.name} broke off ({message.text}): what it had under way has no row"
        self._ending.break_off(what, GRACE_S)
        if self._watch.above is not None:
            self._watch.above.hear(self._place(worker), message)

    def _hear(self, worker: Worker, message: Pulse | Finished) -> None:
        """Take what a sending process says of itself."""
        sender = worker.senders[message.sender]
        if self._watch.above is not None:
            self._watch.above.hear(self._place(worker), message)
        if isinstance(message, Pulse):
            sender.add(message)
            if message.replying:
                self._ending.note_presence(away=False)
            self._progress.recent.pulse(message, self._course.start.monotonic_ns)
            return
        sender.end(message)
        self._course.finished.append(message)

    def _stands(self, worker: Worker, message: Measured | Elsewhere) -> None:
        """Take how far a worker is, by itself."""
        if isinstance(message, Measured):
            worker.left = 0
            self._note_phase()
            return
        self._progress.counted(message.counts, worker.elsewhere)
        worker.elsewhere = message.counts
        if message.away is not None:
            self._ending.note_presence(away=message.away)

    def _ended(self, worker: Worker, one: Judged) -> None:
        self._ending.note_presence(away=one.away)
        if one.role == "measured" and self._plan.part(one.record.request_index).has_tail:
            worker.left = max(0, worker.left - 1)  # `Measured` may have come before
        self._note_phase()

    def _note_phase(self) -> None:
        """Set the phase (warm-up, tail); end an open loop once its measured requests have ended."""
        progress, plan = self._progress, self._plan
        if not self._measuring:
            if plan.warmups and not progress.stopping:  # requests cut off then count as failed
                sent = self._tally.unmeasured
                warmed = sent.warmup + sent.priming
                progress.phase = f"warming up {warmed}/{plan.warmups}"
        elif self._has_tail and not any(worker.left for worker in self._crew.workers):
            if self._watch.above is None:
                self._ending.drain()
            else:
                self._watch.above.measured()

    def _tell(self, command: object) -> None:
        for worker in self._working.values():
            worker.tell(command)
