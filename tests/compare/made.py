"""Runs with figures as a test needs them, made from one summary without reading anything."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

from vllm_bench.compare.pairs import Side
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.run_info import ClockPair
from vllm_bench.summary.summary import RunSummary, summarize
from vllm_bench.verdict.finding import Family, Finding, Severity
from vllm_bench.verdict.verdict import Verdict

from tests.support.made_runs import NOON_S, made_info, made_record, write_run

DAY_S = 86_400.0
TIMES = ("ttft_ms", "tpot_ms", "latency_ms", "ttft_from_schedule_ms", "latency_from_schedule_ms")
LENGTHS = ("prompt_tokens", "completion_tokens")


@functools.cache
def base(rate: float | None = None) -> RunSummary:
    """A healthy run of 400 requests: 4 streams, or so many a second."""
    changes = {"request_rate": rate} if rate else {}
    records = [made_record(i, **changes) for i in range(400)]
    with tempfile.TemporaryDirectory() as folder:
        return summarize(load_run(write_run(Path(folder), records, made_info(records))))


def made(
    name: str,
    times: float = 1.0,
    *,
    rate: float | None = None,
    speed: float = 1.0,
    longer: float = 1.0,
    at_s: float = 0.0,
    doubts: tuple[tuple[str, Severity, Family], ...] = (),
    **changes: Any,
) -> RunSummary:
    """A run whose times are so many times the usual, its rates `speed`, its lengths `longer`.

    `plan` and `repeat` are 1 unless told, its session is its own; other `changes` are of its info.
    """
    like = base(rate)
    assert like.info
    assert like.throughput
    assert like.steady
    plan, repeat = changes.pop("plan", 1), changes.pop("repeat", 1)
    changes.setdefault("session", name)
    info = dataclasses.replace(
        like.info,
        run_id=name,
        repeat=repeat,
        plan={**like.info.plan, "sha256": None if plan is None else f"{plan:02}" * 32},
        clock_start=ClockPair(wall_s=NOON_S + at_s, monotonic_ns=0),
        **changes,
    )
    factors = {**dict.fromkeys(TIMES, times), **dict.fromkeys(LENGTHS, longer)}
    distributions = {
        metric: dataclasses.replace(
            found, percentiles={q: v * factors.get(metric, 1) for q, v in found.percentiles.items()}
        )
        for metric, found in like.distributions.items()
    }
    tokens = {"prompt_tokens": like.throughput.prompt_tokens * longer}
    steady = dataclasses.replace(
        like.steady, requests=like.steady.requests * speed, output_tokens=5000 * speed
    )
    whole = dataclasses.replace(like.throughput, output_tokens=8000 * longer, **tokens)
    return dataclasses.replace(
        like,
        run_id=name,
        name=name,
        info=info,
        distributions=distributions,
        steady=steady,
        throughput=whole,
        verdict=Verdict(tuple(Finding(c, s, "figures", "advice", a) for c, s, a in doubts)),
    )


def side(name: str, *times: float, start_s: float = 0.0, **changes: Any) -> Side:
    """A side of one run for each of `times`, of the plans 1, 2, 3 ..., ten minutes apart."""
    runs = [
        made(f"{name}{k}", t, plan=k, repeat=k, at_s=start_s + 600 * k, **changes)
        for k, t in enumerate(times, 1)
    ]
    return Side(name, tuple(runs))


def without(run: RunSummary, metric: str, percentile: float) -> RunSummary:
    """The same run, with too few values for a percentile."""
    found = run.distributions[metric]
    kept = {q: v for q, v in found.percentiles.items() if q != percentile}
    changed = dataclasses.replace(found, percentiles=kept)
    return dataclasses.replace(run, distributions={**run.distributions, metric: changed})


INVALID: tuple[tuple[str, Severity, Family], ...] = (("errors", Severity.INVALID, "all"),)
