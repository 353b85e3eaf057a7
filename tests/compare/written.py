"""Sides made up for tests: runs of one label in pairs with those of another, as slow as asked."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_bench.records.find_runs import load_run
from vllm_bench.records.run_info import ClockPair
from vllm_bench.summary.summary import RunSummary, summarize

from tests.support.made_runs import NOON_S, made_info, made_record, write_run


def write_side(
    folder: Path,
    label: str,
    slower: float = 1.0,
    *,
    repeats: int = 4,
    streams: Sequence[int] = (4,),
    at_s: float = 0.0,
    requests: int = 400,
    **changes: Any,
) -> list[Path]:
    """Write the runs of a side, whose requests take `slower` seconds each, about."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write(folder, label, slower, repeat, level, at_s, requests, changes)
        for level in streams
        for repeat in range(1, repeats + 1)
    ]


def _write(
    folder: Path,
    label: str,
    slower: float,
    repeat: int,
    streams: int,
    at_s: float,
    requests: int,
    changes: Mapping[str, Any],
) -> Path:
    run_id = f"made-{label or 'none'}-cc{streams}-r{repeat}-{at_s:.0f}"
    spread = 1 + random.Random(run_id).uniform(-0.005, 0.005)
    took = slower * spread
    records = [
        made_record(
            i,
            run_id=run_id,
            concurrency=streams,
            t_sent_s=i / streams * took,
            ttft_ms=100 * took,
            latency_ms=1000 * took,
            tpot_ms=900 / 19 * took,
        )
        for i in range(requests)
    ]
    plan = {"sha256": hashlib.sha256(f"{streams} {repeat}".encode()).hexdigest()}
    began = ClockPair(wall_s=NOON_S + at_s + repeat, monotonic_ns=0)
    given = dict(changes)
    scenario = {"label": label or None, **given.pop("scenario", {})}
    plan |= given.pop("plan", {})
    info = made_info(records, scenario=scenario, plan=plan, **given)
    session = given.get("session", f"{label}-{at_s}")
    clocks = {"clock_start": began, "session": session, "repeat": repeat}
    return write_run(folder, records, dataclasses.replace(info, **clocks))


def read(paths: Sequence[Path]) -> tuple[RunSummary, ...]:
    return tuple(summarize(load_run(path)) for path in paths)
