"""Trials made up for tests, with runs on disk as a tune leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm_bench.tuning.trials import RUNS, Runs, Trial, Tried

from tests.support.made_runs import failed_record, made_info, made_record, write_run


def made_trial(name: str, **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "stage": "full",
        "configuration": name,
        "label": name.replace(" ", ""),
        "settings": {"MAX_NUM_SEQS": name.rpartition(" ")[2]},
        "began": "2026-11-28T15:00:00Z",
        "took_s": 20.0,
        "ready_s": 2.5,
        "server": {"kv_cache_size_tokens": 1000, "kv_cache_max_concurrency": 4.5},
    }
    return Trial(**{**fields, **changes})


def made_run(folder: Path, run_id: str, *, bad: int = 0, **changes: Any) -> str:
    """Write a run of 200 requests, `bad` of ten failed; return its place in the folder."""
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    info = {k: changes.pop(k) for k in ("scenario", "server", "experiment") if k in changes}
    streams = changes.pop("concurrency", 4)
    fields = {"run_id": run_id, "concurrency": streams, **changes}
    records = [
        failed_record(i, run_id=run_id, concurrency=streams)
        if i % 10 < bad
        else made_record(i, **fields)
        for i in range(200)
    ]
    write_run(folder / RUNS, records, made_info(records, **info))
    return f"{RUNS}/{run_id}"


def tried(folder: Path, trial: Trial) -> Tried:
    (found,) = Runs(folder).tried([trial])
    return found
