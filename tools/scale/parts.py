"""What single steps of the head cost, each alone and in memory: CPU in us, bytes on the wire."""

from __future__ import annotations

import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vllm_bench.crew.judged import Judged
from vllm_bench.crew.tally import Tally
from vllm_bench.live.progress import progress_of
from vllm_bench.machines.deal import as_told, dealt
from vllm_bench.machines.kept.line import line_of
from vllm_bench.machines.messages import Serve
from vllm_bench.records.beside.token_file import TokenWriter
from vllm_bench.records.row import csv_lines

from .made import Load, ended, made_judged, made_plan

US = 1e6
A_MESSAGE = 20  # rows: what a foreman gathers in 20 ms at 1,000 a second


def median_us(act: Callable[[], object], repeats: int, times: int = 20) -> float:
    """Return the median CPU of an act, in us."""
    found = []
    for _ in range(repeats):
        begin_s = time.process_time()
        for _ in range(times):
            act()
        found.append((time.process_time() - begin_s) / times * US)
    return statistics.median(found)


def steps(tokens: int, repeats: int) -> dict[str, float]:
    """Return what the steps of one row take, with so many tokens: us, and its bytes."""
    plan = replace(made_plan(Load(2, 1.0, tokens, 10.0)), machine="machine-1")
    like = made_judged(plan, tokens)
    rows = tuple(ended(like, n, 0.1 * n) for n in range(A_MESSAGE))
    sent, tally = pickle.dumps(rows), Tally(plan, progress_of(plan, int, 0.0), _Nowhere())
    with tempfile.TemporaryDirectory() as folder:
        acts = {
            "pickled": lambda: pickle.dumps(rows),
            "unpickled": lambda: pickle.loads(sent),  # noqa: S301
            "counted": _counting(tally, rows),
            "as_csv": lambda: csv_lines([row.record for row in rows]),
            "kept_by_its_machine": lambda: [line_of(row, ()) for row in rows],
            "stamps_written": _writing(TokenWriter(Path(folder), "made"), rows),
        }
        found = {f"{name}_us": median_us(act, repeats) / A_MESSAGE for name, act in acts.items()}
    kept = sum(len(line_of(row, ())) for row in rows)
    return {**found, "bytes": len(sent) / A_MESSAGE, "kept_bytes": kept / A_MESSAGE}


class _Nowhere:
    """A sink that keeps nothing."""

    def begin(self) -> None:
        """Nothing."""

    def write(self, ended: Sequence[Judged]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _counting(tally: Tally, rows: Sequence[Judged]) -> Callable[[], None]:
    def count() -> None:
        for row in rows:
            tally.add(row, row.stamps)
        tally.write()

    return count


def _writing(file: TokenWriter, rows: Sequence[Judged]) -> Callable[[], None]:
    def write() -> None:
        for row in rows:
            file.write(row.record.request_index, row.reads)
        file.flush()

    return write


def dealing(machines: int, requests: int, prompt_chars: int, repeats: int) -> dict[str, float]:
    """Return what a plan of so many requests takes to deal, and to pickle for one machine."""
    plan = made_plan(Load(machines, 1.0, 200, 10.0), requests, prompt_chars)
    names = [f"machine-{n}" for n in range(machines)]
    parts = dealt(plan, names, [1] * machines)

    def handed_over() -> bytes:
        return pickle.dumps(Serve(as_told(parts[0]), None))

    return {
        "dealt_ms": median_us(lambda: dealt(plan, names, [1] * machines), repeats, 1) / 1000,
        "a_machine_ms": median_us(handed_over, repeats, 1) / 1000,
        "a_machine_mb": len(handed_over()) / 1e6,
    }
