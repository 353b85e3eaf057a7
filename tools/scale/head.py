"""One run on a head, with made foremen: what it took of the head's process."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import secrets
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from vllm_bench.crew.judged import Judged, Kept, RunFiles
from vllm_bench.crew.runner import run_plan
from vllm_bench.crew.watch import Watch
from vllm_bench.interrupts import Interrupts
from vllm_bench.live.last_seconds import percentiles
from vllm_bench.live.progress import Progress, Title
from vllm_bench.live.screen import LiveView
from vllm_bench.machines.asked import Asked, fleet_asked
from vllm_bench.records.run_info import ClockPair

from .foremen import made_foremen
from .made import Load, made_plan

GATHER_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run took of the head."""

    load: Load
    status: str
    rows: int
    cpu_s: float  # from the start until the last row was written
    sending_s: float  # CPU from the start until the foremen had sent what they had
    rows_s: float  # from the first row to the last
    closing_s: float  # CPU of completing the files
    late_s: float  # median time from a request's end to its row on disk, in the last second
    peak_bytes: int  # of the head's process


@dataclass(slots=True)
class _Timed:
    """The run's files, and when rows came to them."""

    files: RunFiles
    start_ns: int = 0
    began_cpu_s: float = 0.0
    sent_cpu_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    rows: int = 0
    lates_s: list[tuple[float, float]] = field(default_factory=list)
    written_cpu_s: float = 0.0
    closed_cpu_s: float = 0.0

    def started(self, clock: ClockPair, _how: dict[str, Any]) -> None:
        percentiles([0.0], 50)  # loads what completes the files, before that is measured
        self.start_ns, self.began_cpu_s = clock.monotonic_ns, time.process_time()

    def begin(self) -> None:
        self.files.begin()

    def write(self, ended: Sequence[Judged]) -> None:
        if not self.rows:
            self.first_s = time.monotonic()
        self.files.write(ended)
        self.rows += len(ended)
        self.last_s = time.monotonic()
        now_s = (time.perf_counter_ns() - self.start_ns) / 1e9
        last = ended[-1].record.t_end_s
        self.lates_s.append((last, now_s - last))

    def close(self) -> None:
        self.written_cpu_s = time.process_time()
        self.files.close()
        self.closed_cpu_s = time.process_time()


def one_run(load: Load) -> Measured:
    """Make one run in a process of its own, so that memory begins anew."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_run, load).result()


def _run(load: Load) -> Measured:
    key = secrets.token_bytes(32)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_free_address())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key_file = folder / "key"
        key_file.write_bytes(key)
        listen = f"{address[0]}:{address[1]}"
        asked = Asked(
            machines=load.machines, listen=listen, key_file=key_file, keep_rows_remote=load.stay
        )
        stack.enter_context(made_foremen(address, key_file.read_bytes(), load, folder))
        fleet = stack.enter_context(fleet_asked(asked, lambda _: None, GATHER_LIMIT_S))
        assert fleet is not None
        plan, kept = made_plan(load), Kept(folder / "tokens" if load.files else None)
        timed = _Timed(RunFiles(plan, folder / f"{plan.run_id}.csv", kept))
        shown = stack.enter_context(_view(load))

        def looked(progress: Progress) -> None:
            shown(progress)
            if progress.elapsed_s < load.seconds:
                timed.sent_cpu_s = time.process_time()

        watch = Watch(lambda *_: None, timed.started, looked, Interrupts(), float("inf"))
        result = run_plan(plan, timed, fleet.crew, watch)
    return Measured(
        load,
        result.status,
        timed.rows,
        timed.written_cpu_s - timed.began_cpu_s,
        timed.sent_cpu_s - timed.began_cpu_s,
        timed.last_s - timed.first_s,
        timed.closed_cpu_s - timed.written_cpu_s,
        _late_s(timed.lates_s),
        _peak_bytes(),
    )


@contextlib.contextmanager
def _view(load: Load) -> Iterator[Callable[[Progress], None]]:
    if not load.screen:
        yield lambda _: None
        return
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40)
    title = Title(1, 1, "made", f"{load.machines} machines", "made")
    with LiveView(console, title, dict) as view:
        yield view.show


def _late_s(found: list[tuple[float, float]]) -> float:
    """Return how late rows were in the last second of the run; 0: there were none."""
    last_s = max((end_s for end_s, _ in found), default=0.0)
    return statistics.median([late for end_s, late in found if end_s > last_s - 1] or [0.0])


def _peak_bytes() -> int:
    """Return this process's most memory; getrusage would tell its parent's, where that had more."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


@contextlib.contextmanager
def _free_address() -> Iterator[tuple[str, int]]:
    """Hold an address for whoever is to listen there: bound, the system gives it to nobody else."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()
