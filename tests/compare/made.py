"""Runs with figures as a test needs them, made from one summary without reading anything."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

from vllm_bench.compare.pairs import Side
from vllm_bench.records.run_info import ClockPair
from vllm_bench.stats.distribution import Distribution
from vllm_bench.summary.summary import RunSummary
from vllm_bench.verdict.finding import Family, Finding, Severity
from vllm_bench.verdict.verdict import Verdict

from tests.support.made_runs import NOON_S, made_info, made_record, summed

DAY_S = 86_400.0
TIMES = ("ttft_ms", "tpot_ms", "latency_ms", "ttft_from_schedule_ms", "latency_from_schedule_ms")
LENGTHS = ("prompt_tokens", "completion_tokens")


@functools.cache
def base(rate: float | None = None) -> RunSummary:
    """A healthy run of 400 requests: 4 streams, or so many a second."""
    changes = {"request_rate": rate} if rate else {}
    records = [made_record(i, **changes) for i in range(400)]
    with tempfile.TemporaryDirectory() as folder:
        return summed(Path(folder), records, made_info(records))


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
    plan = changes.pop("plan", 1)
    told = {"repeat": 1, "session": name, **changes}
    sha256 = None if plan is None else f"{plan:02}" * 32
    clock = ClockPair(wall_s=NOON_S + at_s, monotonic_ns=0)
    info = dataclasses.replace(
        like.info, run_id=name, plan={**like.info.plan, "sha256": sha256}, clock_start=clock, **told
    )
    factors = {**dict.fromkeys(TIMES, times), **dict.fromkeys(LENGTHS, longer)}
    return dataclasses.replace(
        like,
        run_id=name,
        name=name,
        info=info,
        distributions={m: scaled(d, factors.get(m, 1.0)) for m, d in like.distributions.items()},
        verdict=Verdict(tuple(Finding(c, s, "figures", "advice", a) for c, s, a in doubts)),
        **rates(like, speed, longer),
    )


def scaled(found: Distribution, factor: float) -> Distribution:
    percentiles = {q: value * factor for q, value in found.percentiles.items()}
    return dataclasses.replace(found, percentiles=percentiles)


def rates(like: RunSummary, speed: float, longer: float) -> dict[str, Any]:
    """The work of the window, at so many times the speed, and of the whole run."""
    assert like.steady
    assert like.throughput
    work = {"requests": like.steady.requests * speed, "output_tokens": 5000 * speed}
    whole = {
        "prompt_tokens": like.throughput.prompt_tokens * longer,
        "output_tokens": 8000 * longer,
    }
    return {
        "steady": dataclasses.replace(like.steady, **work),
        "throughput": dataclasses.replace(like.throughput, **whole),
    }


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
