"""Runs one plan: starts the sending process, judges what it sends back, writes the rows.

This is the parent's side. It is off the timing path: whatever it does late
changes no stamp, and rows are on disk within a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from .exchange import Exchange
from .outcome import judge
from .plan import Plan
from .progress import Progress
from .records import ClockPair, RecordWriter, RequestRecord, RunStatus
from .worker import Finished, Go, Ready, run_worker

POLL_S = 0.2  # rows wait no longer than this for the disk
HEAD_START_S = 0.05  # between telling the worker to start and the start
GRACE_S = 5.0  # what requests in flight are given after the first Ctrl-C
START_LIMIT_S = 60.0


class RunError(Exception):
    """A run that could not start or go on; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How the script takes part: it is told, and it may ask for the end."""

    on_connected: Callable[[int, str | None], None]  # streams connected, first problem
    on_start: Callable[[ClockPair], None]
    on_progress: Callable[[Progress], None]
    interrupts: Callable[[], int]  # how often Ctrl-C has been pressed


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, beside its rows."""

    status: RunStatus
    clock_start: ClockPair
    clock_end: ClockPair
    progress: Progress
    fingerprint: str | None
    note: str | None


def run_plan(plan: Plan, csv_path: Path, watch: Watch) -> RunResult:
    """Run the plan and write its rows to `csv_path`.

    Raises RunError where the worker can't start, OSError where rows can't be written.
    """
    writer = RecordWriter(csv_path)
    try:
        with _worker(plan) as worker:
            ready = _receive_ready(worker.results)
            watch.on_connected(ready.connected, ready.problem)
            start = _start(worker.orders)
            watch.on_start(start)
            return _Run(plan, worker, writer, watch, start).follow()
    finally:
        writer.close()


@dataclass(frozen=True, slots=True)
class _Worker:
    """The sending process, as the parent reaches it."""

    orders: Pipe
    results: Pipe


@contextmanager
def _worker(plan: Plan) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    their_orders, orders = context.Pipe(duplex=False)
    results, their_results = context.Pipe(duplex=False)
    process = context.Process(
        target=run_worker, args=(plan, their_orders, their_results), daemon=True
    )
    # The child inherits this: Ctrl-C is the parent's to answer, from the first instant.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    their_orders.close()  # so that the end of the child is the end of the pipes
    their_results.close()
    try:
        yield _Worker(orders, results)
    finally:
        orders.close()
        results.close()
        process.join(timeout=2)
        if process.is_alive():
            process.kill()
            process.join()


def _receive_ready(results: Pipe) -> Ready:
    try:
        if not results.poll(START_LIMIT_S):
            raise RunError(f"the sending process was not ready after {START_LIMIT_S:g} s")
        ready: Ready = results.recv()
    except EOFError as e:
        raise RunError("the sending process died before the start") from e
    return ready


def _start(orders: Pipe) -> ClockPair:
    """Name an instant that is near enough to wait for, and far enough to be told of in time."""
    wall_s, now_ns = time.time(), time.perf_counter_ns()
    start = ClockPair(
        wall_s=wall_s + HEAD_START_S, monotonic_ns=now_ns + int(HEAD_START_S * 1_000_000_000)
    )
    orders.send(Go(start.monotonic_ns))
    return start


class _Run:
    """One run that is under way."""

    def __init__(
        self,
        plan: Plan,
        worker: _Worker,
        writer: RecordWriter,
        watch: Watch,
        start: ClockPair,
    ) -> None:
        self._plan = plan
        self._orders = worker.orders
        self._results = worker.results
        self._writer = writer
        self._watch = watch
        self._start = start
        self._progress = Progress(len(plan.requests), start.monotonic_ns / 1e9)
        self._fingerprint: str | None = None
        self._cancel_at_s = float("inf")
        self._cancelled = False

    def follow(self) -> RunResult:
        """Take what the worker sends until it has finished, or died."""
        finished: Finished | None = None
        try:
            while finished is None:
                self._pass_on_interrupts()
                finished = self._take_batch()
                self._watch.on_progress(self._progress)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return self._result("failed", None, "the sending process died")
        cut_short = self._progress.ended < len(self._plan.requests) or self._cancelled
        return self._result("interrupted" if cut_short else "complete", finished, None)

    def _take_batch(self) -> Finished | None:
        """Write what has come; return the worker's last message when it is that."""
        records: list[RequestRecord] = []
        finished: Finished | None = None
        try:
            patience_s = POLL_S
            while finished is None and len(records) < 1000 and self._results.poll(patience_s):
                message = self._results.recv()
                if isinstance(message, Exchange):
                    records.append(self._judge(message))
                else:
                    finished = message
                patience_s = 0
        finally:  # also when the worker died after sending these
            self._writer.write(records)
        return finished

    def _judge(self, exchange: Exchange) -> RequestRecord:
        expected = self._plan.expectation(exchange.request_index, self._start.monotonic_ns)
        outcome = judge(exchange, expected)
        self._fingerprint = outcome.fingerprint or self._fingerprint
        self._progress.count(outcome.record)
        return outcome.record

    def _pass_on_interrupts(self) -> None:
        count, now_s = self._watch.interrupts(), time.monotonic()
        if count and not self._progress.stopping:
            self._progress.stopping = True
            self._cancel_at_s = now_s + GRACE_S
            self._orders.send("stop")
        if not self._cancelled and (count > 1 or now_s >= self._cancel_at_s):
            self._cancelled = True
            self._orders.send("cancel")

    def _result(self, status: RunStatus, finished: Finished | None, note: str | None) -> RunResult:
        end = (
            ClockPair(wall_s=finished.wall_s, monotonic_ns=finished.end_ns)
            if finished
            else ClockPair(wall_s=time.time(), monotonic_ns=time.perf_counter_ns())
        )
        return RunResult(status, self._start, end, self._progress, self._fingerprint, note)
