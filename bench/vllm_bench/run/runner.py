"""Runs one plan: starts the sending processes, reads their results, ends them in time.

This is the parent's side. It is off the timing path: if it is late, no stamp changes. Rows are on
disk within a fraction of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from ..interrupts import Interrupts
from ..live.progress import Progress, progress_of
from ..plan.plan import Plan
from ..records.beside.answers import AnswerWriter
from ..records.request_record import RecordWriter, RequestRecord
from ..records.run_info import ClockPair, RunStatus
from ..reply.back_off import turned_away
from ..reply.exchange import Exchange, PackedSegment
from ..send.outbox import Broke, Command, Connected, Drop, Finished, Pulse, Ready
from .client_health import health_facts
from .crew import START_LIMIT_S, RunError, Worker, start_all, started_crew
from .tally import Tally, Unmeasured

POLL_S = 0.2  # rows wait at most this long to be written
GATHER_S = 0.01  # messages gather: to wake up for one takes longer than to read it
GRACE_S = 5.0  # for requests in flight after the first Ctrl-C
LEAST_AWAY_S = 2.0  # a process tells each second whether replies are under way
FROZEN_S = 10.0  # without a word of a process that should send one each second
HURRY_S = 3.0  # the same after everything was cut off: somebody waits for the end
DRAIN_S = 60.0  # for requests of the tail: after an overload they could take hours


# Asked a few times a second with the rows since the last time and the seconds since the start: why
# the run has shown enough; None: it goes on.
Enough = Callable[[Sequence[RequestRecord], float], str | None]


@dataclass(frozen=True, slots=True)
class Watch:
    """What the script is called for, and how it asks for the end."""

    on_connected: Callable[[int, str | None], None]  # streams connected, first problem
    on_start: Callable[[ClockPair, dict[str, Any]], None]  # when, and how: see Plan.start_facts
    on_progress: Callable[[Progress], None]
    interrupts: Interrupts
    give_up_s: float  # after how long of nothing but requests turned away the server is gone
    enough: Enough | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    status: RunStatus
    clock_start: ClockPair
    clock_end: ClockPair
    start: dict[str, Any]  # see Plan.start_facts
    num_requests: int  # those that should have a row
    by_class: dict[str, int]  # the same of each class
    progress: Progress
    fingerprint: str | None
    replied_as: dict[str, int]  # replies by the model that they name
    client_health: dict[str, Any]
    unmeasured: Unmeasured
    sessions: dict[str, Any]  # empty: the run has none
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is written beside the rows, if it is."""

    tokens: Path | None = None  # the folder for the stamp of each token
    texts: bool = False  # what answers to questions say, beside whether they are right


def run_plan(plan: Plan, rows_path: Path, kept: Kept, workers: int, watch: Watch) -> RunResult:
    """Run the plan, write one row per request and what else is kept; of questions the answers.

    Raises RunError where a worker can't start, OSError where files can't be written,
    KeyboardInterrupt where a signal comes before there is anything to lose; later ones are only
    counted, and end the run.
    """
    # The rows' file first and last: while it is open, the run does not look like a killed one.
    with (
        closing(RecordWriter(rows_path)) as rows,
        started_crew(plan, workers, watch.interrupts) as crew,
    ):
        watch.interrupts.count_from_now_on()
        progress = progress_of(plan, partial(_taken, crew[0]), time.perf_counter_ns() / 1e9)
        with closing(Tally(plan, progress, rows)) as tally:
            run = _Run(plan, crew, progress, tally)
            if run.get_ready(watch):
                how = plan.start_facts(tally.unmeasured.warmup_latency_s)
                start = start_all(crew, how.get("start_spread_s", 0.0))
                watch.on_start(start, how)
                tally.begin(start.monotonic_ns, kept.tokens, _answers(plan, rows_path, kept))
                run.begin(start, how)
            return run.follow(watch)


def _answers(plan: Plan, rows_path: Path, kept: Kept) -> AnswerWriter | None:
    """Return where answers are written; None: the prompts are no questions."""
    if plan.asked is None:
        return None
    return AnswerWriter(rows_path.parent / "answers", plan.run_id, texts=kept.texts)


class _Run:
    """One run while it goes on."""

    def __init__(self, plan: Plan, crew: list[Worker], progress: Progress, tally: Tally) -> None:
        self._plan = plan
        self._crew = crew
        self._progress = progress
        self._tally = tally
        self._start = _now()
        self._how: dict[str, Any] = {}
        self._measuring = False  # from the start on
        self._working = {worker.results: worker for worker in crew}
        # Open loops, whose shares are fixed: how many requests each process has still to measure.
        due = [part.measured for part in plan.drawn if part.has_tail]
        self._has_tail = bool(due)
        self._left = [
            sum(len(range(n, measured, len(crew))) for measured in due) for n in range(len(crew))
        ]
        self._connected: list[Connected] = []
        self._ready = 0
        self._finished: list[Finished] = []
        self._cancel_at_s = float("inf")
        self._cancelled = False
        self._draining = False
        self._broken_off: str | None = None  # why the run was ended
        self._enough: str | None = None  # why more of it would have shown nothing else
        self._away_since_s = float("inf")  # since when the server has turned all away
        self._lost: list[str] = []  # how each process was lost
        self._awake = _AwakeClock()

    def get_ready(self, watch: Watch) -> bool:
        """Wait for connections and for the warm-up; False: the user asked to stop.

        Raises RunError where a process dies or doesn't come up, KeyboardInterrupt where a signal
        comes before anything was sent.
        """
        while self._ready < len(self._crew):
            connecting = len(self._connected) < len(self._crew)
            self._listen(watch)
            if self._broken_off:
                raise RunError(self._broken_off)
            if self._progress.stopping:
                if connecting:  # nothing was sent
                    raise KeyboardInterrupt
                return False
            if len(self._working) < len(self._crew):
                raise RunError(f"{self._lost[0]} before the start")
            if connecting and len(self._connected) == len(self._crew):
                problem = next((c.problem for c in self._connected if c.problem), None)
                watch.on_connected(sum(c.connected for c in self._connected), problem)
                self._note_phase()
            elif connecting and self._awake.s > START_LIMIT_S:
                raise RunError(f"a sending process was not ready after {START_LIMIT_S:g} s")
        return True

    def begin(self, start: ClockPair, how: dict[str, Any]) -> None:
        self._start, self._how, self._measuring = start, how, True
        self._progress.started_s = start.monotonic_ns / 1e9
        self._progress.phase = ""

    def follow(self, watch: Watch) -> RunResult:
        """Receive from the workers until each has finished or died."""
        roomy = all(worker.roomy for worker in self._crew)
        while self._working:
            self._listen(watch)
            if roomy:
                time.sleep(GATHER_S)
        return self._result()

    def _listen(self, watch: Watch) -> None:
        """Pass on Ctrl-C, and receive what the workers have sent meanwhile."""
        self._pass_on(watch.interrupts())
        for worker in self._working.values():
            if worker.untold:
                worker.tell_rest()
        try:
            for results in wait(list(self._working), POLL_S):
                self._take_all(self._working[results])  # type: ignore[index]
        finally:
            rows = self._tally.write()
        self._end_if_enough(watch.enough, rows)
        self._give_up_if_gone(watch.give_up_s)
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
            self._take(worker, message)

    def _kill_frozen(self) -> None:
        """Go on without a process that says nothing: it was stopped, or its loop never ends."""
        patience_s = HURRY_S if self._cancelled else FROZEN_S
        for worker in list(self._working.values()):
            if worker.heard_s is not None and self._awake.s - worker.heard_s > patience_s:
                worker.process.kill()
                self._lose(worker, f"said nothing for {patience_s:g} s and was killed")

    def _lose(self, worker: Worker, what: str) -> None:
        self._lost.append(f"sending process {worker.health.number} {what}")
        worker.health.lost = True
        del self._working[worker.results]
        self._left[worker.health.number] = 0  # nobody sends these: the others needn't wait
        self._note_phase()

    def _take(self, worker: Worker, message: object) -> None:
        """Do what a message asks for; `Alive` asks for nothing: it was heard."""
        if isinstance(message, tuple):  # the end of a reply: its last segment, and itself
            for part in message:
                self._take(worker, part)
        elif isinstance(message, PackedSegment):
            excess = self._tally.segment(message)
            if excess is not None:
                worker.tell(Drop(message.request_index, excess))
        elif isinstance(message, Exchange):
            self._note_presence(away=turned_away(message))
            if self._tally.end(message) == "measured":
                self._count_down(message.request_index)
            self._note_phase()
        elif isinstance(message, Pulse):
            worker.health.add(message)
            if message.replying:
                self._note_presence(away=False)
            self._progress.recent.pulse(message, self._start.monotonic_ns)
        elif isinstance(message, Connected):
            worker.health.connected = message.connected
            self._connected.append(message)
        elif isinstance(message, Ready):
            self._ready += 1
        elif isinstance(message, Finished):
            worker.health.end(message)
            self._finished.append(message)
            del self._working[worker.results]
        elif isinstance(message, Broke):
            what = f"a sending process broke off ({message.text}): what it had under way has no row"
            self._break_off(what, GRACE_S)

    def _count_down(self, index: int) -> None:
        part = self._plan.part(index)
        if part.has_tail:
            self._left[index // part.of % len(self._crew)] -= 1

    def _note_phase(self) -> None:
        """Set the phase (warm-up, tail); end an open loop once its measured requests have ended."""
        progress, plan = self._progress, self._plan
        if not self._measuring:
            if plan.warmups and not progress.stopping:  # requests cut off then count as failed
                sent = self._tally.unmeasured
                warmed = sent.warmup + sent.priming
                progress.phase = f"warming up {warmed}/{plan.warmups}"
        elif self._has_tail and not any(self._left) and not self._draining:
            self._draining = True
            if all(part.open_loop for part in plan.drawn):  # what streams send has rows
                self._cancel_at_s = min(self._cancel_at_s, time.monotonic() + DRAIN_S)
            progress.phase = "waiting for unmeasured requests"
            self._tell("stop")

    def _note_presence(self, *, away: bool) -> None:
        since_s = min(self._away_since_s, time.monotonic())
        self._away_since_s = since_s if away else float("inf")

    def _give_up_if_gone(self, give_up_s: float) -> None:
        """End a run whose server answers nobody any more: no further row would say anything."""
        ending = self._progress.stopping or self._draining
        if ending or time.monotonic() - self._away_since_s < max(give_up_s, LEAST_AWAY_S):
            return
        why = self._progress.last_error or self._tally.unmeasured.last_error
        self._break_off(
            f"gave up: for {give_up_s:g} s the server turned every request away ({why})", 0
        )

    def _break_off(self, why: str, grace_s: float) -> None:
        """End a run that has failed; what was measured is kept."""
        if self._broken_off is None:
            self._broken_off = why
            self._progress.stop()
            self._cancel_at_s = time.monotonic() + grace_s
            self._tell("stop")

    def _end_if_enough(self, enough: Enough | None, rows: Sequence[RequestRecord]) -> None:
        """End a run that has shown what its asker wants to know: what is under way is cut off."""
        if enough is None or not self._measuring or self._progress.stopping or self._draining:
            return
        self._enough = enough(rows, self._progress.elapsed_s)
        if self._enough is not None:
            self._progress.stop(self._enough)
            self._cancel_at_s = time.monotonic()
            self._tell("stop")

    def _tell(self, command: Command) -> None:
        for worker in self._working.values():
            worker.tell(command)

    def _pass_on(self, interrupts: int) -> None:
        """Pass Ctrl-C on to the workers: first no new requests, then cut off all."""
        now_s = time.monotonic()
        if interrupts and not self._progress.stopping:
            self._progress.stop()
            # Before the start nothing has been measured: no need to wait.
            self._cancel_at_s = now_s + (GRACE_S if self._measuring else 0)
            self._tell("stop")
        if not self._cancelled and (interrupts > 1 or now_s >= self._cancel_at_s):
            self._cancelled = True
            self._tell("cancel")

    def _result(self) -> RunResult:
        last = max(self._finished, key=lambda f: f.end_ns, default=None)
        tally = self._tally
        health = health_facts([worker.health for worker in self._crew], self._start.monotonic_ns)
        return RunResult(
            status=self._status(),
            clock_start=self._start,
            clock_end=ClockPair(wall_s=last.wall_s, monotonic_ns=last.end_ns) if last else _now(),
            start=self._how,
            num_requests=sum(due for _, due in self._due()),
            by_class={name: due for name, due in self._due() if name},
            progress=self._progress,
            fingerprint=tally.fingerprint,
            replied_as=tally.replied_as,
            client_health={**health, **tally.read_times.facts()},
            unmeasured=tally.unmeasured,
            sessions=tally.sessions.facts(),
            notes=self._notes(),
        )

    def _status(self) -> RunStatus:
        if self._broken_off or not self._finished:
            return "failed"
        progress = self._progress
        missing = (
            progress.ended < sum(due for _, due in self._due()) or progress.errors["cancelled"]
        )
        early = progress.stopped_s < (self._plan.duration_s or 0.0)
        if not progress.stopping or not (missing or early):
            return "complete"
        return "interrupted" if self._enough is None else "stopped"

    def _due(self) -> Iterator[tuple[str | None, int]]:
        """Yield how many requests of each part should have a row; by time: all that began.

        Of a session that began, each turn counts, but for those that a failure kept from being
        sent.
        """
        sessions = self._tally.sessions
        for part, tickets in zip(self._plan.drawn, self._crew[0].tickets, strict=True):
            due = part.due(tickets.taken()) - sessions.not_sent(part)
            # How many turns there were to be is only known where all are sent.
            yield part.name, sessions.rows[part.place] if self._plan.cuts_plays(part) else due

    def _notes(self) -> tuple[str, ...]:
        died = (
            f"{len(self._lost)} of {len(self._crew)} sending processes died, and their share of "
            f"the load with them: {', '.join(self._lost)}"
        )
        together = (
            "the streams started together: without a request that warmed the server up, no latency "
            "is known over which to spread them"
        )
        wanted = self._plan.scenario.start == "staggered"
        burst = wanted and self._how.get("start") == "together"
        return (
            *self._tally.unmeasured.notes,
            *((together,) if burst else ()),
            *((died,) if self._lost else ()),
            *((self._broken_off,) if self._broken_off else ()),
            *((self._enough,) if self._enough else ()),
        )


def _taken(worker: Worker) -> int:
    return sum(tickets.taken() for tickets in worker.tickets)


def _now() -> ClockPair:
    return ClockPair(wall_s=time.time(), monotonic_ns=time.perf_counter_ns())


class _AwakeClock:
    """Counts the seconds that this process was awake.

    Suspended itself (Ctrl-Z, a laptop's lid), it has heard nobody, and nobody is to blame.
    """

    def __init__(self) -> None:
        self.s = 0.0
        self._looked_s = time.monotonic()

    def look(self) -> None:
        """Count the time since the last look: a second of it at most, since looks are frequent."""
        now_s = time.monotonic()
        self.s += min(now_s - self._looked_s, 1.0)
        self._looked_s = now_s
