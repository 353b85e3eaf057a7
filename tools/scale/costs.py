"""From runs on a head to what one row, token and machine cost; and how much it takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from vllm_bench.errors import BenchError

from .head import Measured, one_run
from .made import Load

US = 1e6
BEHIND_S = 0.5  # rows that come so late at a run's end: the head doesn't keep up
FIRST_RATE = 2000.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    seconds: float
    repeats: int
    rate: float  # rows a second
    tokens: int
    machines: tuple[int, int]  # of two idle runs


def costs(sizes: Sizes) -> dict[str, float]:
    """Return what things cost the head: CPU in us, memory in bytes."""
    few, many = sizes.machines
    rate, tokens, seconds = sizes.rate, sizes.tokens, sizes.seconds
    loads = {
        "few": Load(few, 0.0, 0, seconds),
        "many": Load(many, 0.0, 0, seconds),
        "rows": Load(few, rate, 0, seconds),
        "tokens": Load(few, rate, tokens, seconds),
        "no_file": Load(few, rate, tokens, seconds, files=False),
        "screen": Load(few, rate, tokens, seconds, screen=True),
        "stay": Load(few, rate, tokens, seconds, stay=True),
    }
    runs: dict[str, list[Measured]] = {name: [] for name in loads}
    for _ in range(sizes.repeats):  # by turns: a slow minute of the machine is everybody's
        for name, load in loads.items():
            runs[name].append(_whole(one_run(load)))

    def median(name: str, of: Callable[[Measured], float]) -> float:
        return statistics.median(map(of, runs[name]))

    def cpu(name: str) -> float:
        return median(name, lambda run: run.cpu_s) * US

    rows = int(rate / few * seconds) * few
    stamps = rows * tokens

    def closing(name: str) -> float:
        return median(name, lambda run: run.closing_s) * US

    def peak(name: str) -> float:
        return median(name, lambda run: run.peak_bytes)

    return {
        "row_us": (cpu("rows") - cpu("few")) / rows,
        "token_us": (cpu("tokens") - cpu("rows")) / stamps,
        "token_without_file_us": (cpu("no_file") - cpu("rows")) / stamps,
        "token_shown_us": (cpu("screen") - cpu("tokens")) / stamps,
        "machine_us_a_second": (cpu("many") - cpu("few")) / (many - few) / seconds,
        "closing_row_us": (closing("rows") - closing("few")) / rows,
        "closing_token_us": (closing("tokens") - closing("rows")) / stamps,
        "row_bytes": (peak("rows") - peak("few")) / rows,
        "token_bytes": (peak("tokens") - peak("rows")) / stamps,
        "machine_bytes": (peak("many") - peak("few")) / (many - few),
        "head_mb": peak("few") / 1e6,
        "stay_us_a_second": median("stay", lambda run: run.sending_s) * US / seconds,
        "fetched_row_us": median("stay", lambda run: run.cpu_s - run.sending_s) * US / rows,
        "fetched_rows_per_s": rows / max(1e-9, median("stay", lambda run: run.rows_s)),
        "late_ms": median("tokens", lambda run: run.late_s) * 1000,
    }


def _whole(measured: Measured) -> Measured:
    """Return it if all rows came. Raises BenchError."""
    load = measured.load
    wanted = int(load.rows_per_s / load.machines * load.seconds) * load.machines
    if measured.status != "complete" or measured.rows != wanted:
        raise BenchError(f"{load}: {measured.status}, {measured.rows} of {wanted} rows came")
    return measured


def searched(sizes: Sizes, tokens: int) -> dict[str, float]:
    """Return the share of a core that each rate took, doubled until rows come late."""
    rate, found = FIRST_RATE, dict[str, float]()
    while True:
        run = _whole(one_run(Load(2, rate, tokens, sizes.seconds)))
        found[f"{rate:g}_rows_per_s_cores"] = run.cpu_s / sizes.seconds
        found[f"{rate:g}_rows_per_s_late_ms"] = run.late_s * 1000
        if run.late_s > BEHIND_S:
            return found
        rate *= 2
