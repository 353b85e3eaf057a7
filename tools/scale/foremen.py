"""Foremen that send made rows at a set rate.

Everything but the sending is the foreman's own code: its three connections, its messages, its
outbox. In the place of the run that it makes here stands `MadeRun`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import secrets
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

from vllm_bench.crew.health import WorkerHealth
from vllm_bench.crew.judged import Judged, Sink
from vllm_bench.crew.watch import Watch
from vllm_bench.crew.worker import CrewMaker
from vllm_bench.live.progress import progress_of
from vllm_bench.machines.facts import machine_facts
from vllm_bench.machines.foreman import serve as foreman
from vllm_bench.machines.kept.folder import private_folder
from vllm_bench.machines.kept.keeper import Keeper
from vllm_bench.machines.meeting.address import Address
from vllm_bench.machines.meeting.dial import dial
from vllm_bench.machines.messages import Hello
from vllm_bench.plan.part import Part
from vllm_bench.plan.plan import Plan
from vllm_bench.send.outbox import Finished, Go, Pulse
from vllm_bench.wire.clock import ClockFacts

from .made import Load, ended, made_judged

LOOK_S = 0.02  # a foreman's own run gathers what has ended about as long
TICKS = 200  # of a sending process's loop in a second
DIAL_LIMIT_S = 60.0


@dataclass(slots=True)
class _MadeCrew:
    """One sending process, that isn't there."""

    plan: Plan
    sent: int = 0
    workers: Sequence[object] = field(default_factory=list)

    def begun(self) -> int:
        return self.sent

    def due(self, part: Part) -> int:
        return part.due(self.sent)

    def to_measure(self) -> list[int]:
        return [0]  # streams send on until the run is over


@dataclass(frozen=True, slots=True)
class _MadeWorker:
    senders: list[WorkerHealth]

    def tell(self, order: object) -> None:
        """Nothing: nobody sends here."""


@dataclass(frozen=True, slots=True)
class MadeRun:
    """Stands in for `run_plan` on a machine."""

    load: Load

    def __call__(self, plan: Plan, sink: Sink, _made_crew: CrewMaker, watch: Watch) -> None:
        """Tell of a run in which requests end evenly."""
        above, streams = watch.above, plan.streams or 0
        assert above is not None
        health = WorkerHealth(0, None, streams, connected=streams)
        crew = _MadeCrew(plan, workers=[_MadeWorker([health])])
        above.manned(crew)  # type: ignore[arg-type]
        watch.on_connected(streams, None)
        rows = self._made(plan)  # before the start: what the head takes shall not wait for it
        above.ready()
        while (go := above.go()) is None:
            if watch.interrupts():
                return
            time.sleep(0.001)
        sink.begin()
        self._send(crew, rows, sink, watch, go)

    @property
    def _rate(self) -> float:
        """Rows a second of one machine."""
        return self.load.rows_per_s / self.load.machines

    def _made(self, plan: Plan) -> list[Judged]:
        like, own = made_judged(plan, self.load.tokens), plan.drawn[0].own
        count = int(self._rate * self.load.seconds)
        return [ended(like, own.number(n), (n + 1) / self._rate) for n in range(count)]

    def _send(
        self, crew: _MadeCrew, rows: Sequence[Judged], sink: Sink, watch: Watch, go: Go
    ) -> None:
        assert watch.above is not None
        progress = progress_of(crew.plan, crew.begun, go.start_ns / 1e9)
        pulses, now_s = 0, 0.0
        while now_s < self.load.seconds and not watch.interrupts():
            now_s = (time.perf_counter_ns() - go.start_ns) / 1e9
            due = min(len(rows), max(crew.sent, int(self._rate * now_s)))
            if due > crew.sent:
                sink.write(rows[crew.sent : due])
            crew.sent = due
            if now_s >= pulses + 1:
                pulses += 1
                watch.above.hear(0, _pulse())
            watch.on_progress(progress)
            time.sleep(LOOK_S)
        sink.close()
        watch.above.hear(0, _finished())
        watch.above.over(progress)


def _pulse() -> Pulse:
    lags = array("I", [100]) * TICKS
    return Pulse(time.perf_counter_ns(), 0.5, lags.tobytes(), replying=True)


def _finished() -> Finished:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    end_ns = time.perf_counter_ns()
    return Finished(end_ns, time.time(), 0, peak, time.process_time(), ClockFacts(None, "", 0))


def serve_made(address: tuple[str, int], key: bytes, load: Load, folder: Path) -> None:
    """Be a foreman until the head goes; what it keeps is in a folder of its own."""
    facts, foreman_id = machine_facts(), secrets.token_hex(8)
    pipes = dial(
        Address(*address), key, lambda kind: Hello(kind, foreman_id, facts), DIAL_LIMIT_S, _quietly
    )
    with mock.patch.object(foreman, "run_plan", MadeRun(load)):
        foreman.serve(pipes, Keeper(private_folder(folder)))


def _quietly(_line: str) -> None:
    """Say nothing while the head doesn't listen yet."""


@contextlib.contextmanager
def made_foremen(
    address: tuple[str, int], key: bytes, load: Load, folder: Path
) -> Iterator[list[BaseProcess]]:
    """Start them, away from the head's process; they end with their connections."""
    context = multiprocessing.get_context("fork")  # at once; there are no threads yet
    found: list[BaseProcess] = []
    try:
        for number in range(load.machines):
            process: BaseProcess = context.Process(
                target=serve_made, args=(address, key, load, folder / f"kept-{number}"), daemon=True
            )
            process.start()
            found.append(process)
        yield found
    finally:
        for process in found:
            process.join(10)
            process.kill()
