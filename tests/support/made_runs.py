"""Runs made up for tests: `<run_id>.csv` and `.json` in any shape, written as a run writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_bench.plan.arrivals import realised
from vllm_bench.records.beside.answers import AnswerRow
from vllm_bench.records.beside.sample_file import RowFile
from vllm_bench.records.beside.samples import ALL, GpuRow, ServerRow
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RecordWriter, RequestRecord, read_rows
from vllm_bench.records.row import Rows
from vllm_bench.records.run_info import (
    ClockPair,
    RunInfo,
    read_what_is_right,
    write_run_info,
)
from vllm_bench.summary.summary import RunSummary, summarize
from vllm_bench.watch.page_sampler import Page
from vllm_bench.watch.vllm_metrics import ServerMetricsSampler, ServerRecording

NOON_S = 1_763_985_600.0  # 2025-11-24T12:00:00Z


def made_record(index: int = 0, **changes: Any) -> RequestRecord:
    """Return a request that succeeded: 20 tokens in a second, the first after 100 ms.

    Records 0, 1, 2, ... hold as many streams busy as their `concurrency` says (4 by default), or
    come evenly, `request_rate` of them a second, each late by its `send_lag_ms`.
    """
    if changes.get("request_rate"):
        changes = {**_arrival(index, changes), **changes}
    streams = changes.get("concurrency", 4) or 4
    sent_s = changes.pop("t_sent_s", index / streams)
    ttft_ms = changes.get("ttft_ms", 100.0)
    latency_ms = changes.pop("latency_ms", 1000.0)
    fields: dict[str, Any] = {
        "run_id": "made-cc4-pref256-max20-20251124T120000Z",
        "scenario": "made",
        "concurrency": 4,
        "request_rate": None,
        "conversation_id": None,
        "turn": None,
        "request_index": index,
        "request_id": f"made-{index}",
        "prompt_id": f"prompt-{index}",
        "stream_index": index % streams,
        "t_scheduled_s": sent_s if sent_s is not None else index / 4,
        "t_sent_s": sent_s,
        "t_end_s": (sent_s or 0.0) + (latency_ms or 0.0) / 1000,
        "send_lag_ms": 0.1,
        "waited_ms": 0.0,
        "connect_ms": None,
        "resent": 0,
        "ttft_ms": ttft_ms,
        "ttfa_ms": ttft_ms,
        "latency_ms": latency_ms,
        "tpot_ms": 900 / 19,
        "max_gap_ms": 60.0,
        "prompt_tokens_planned": None,
        "prompt_tokens": 250,
        "completion_tokens": 20,
        "cached_tokens": None,
        "token_events": 20,
        "visible_events": changes.get("token_events", 20),
        "token_reads": 20,
        "max_tokens": 20,
        "http_status": 200,
        "finish_reason": "length",
        "error_kind": None,
        "error": None,
    }
    return RequestRecord(**{**fields, **changes})


def _arrival(index: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Return what is different about a request of an open loop."""
    due_s = changes.get("t_scheduled_s", index / changes["request_rate"])
    sent_s = due_s + (changes.get("send_lag_ms", 0.1) or 0.0) / 1000
    return {"concurrency": None, "t_scheduled_s": due_s, "t_sent_s": sent_s}


def failed_record(index: int = 0, **changes: Any) -> RequestRecord:
    """Return a request that the server refused."""
    nothing = dict.fromkeys(
        ("ttft_ms", "ttfa_ms", "tpot_ms", "max_gap_ms", "prompt_tokens", "finish_reason")
    )
    failure = {
        "latency_ms": 5.0,
        "completion_tokens": None,
        "token_events": 0,
        "token_reads": 0,
        "http_status": 500,
        "error_kind": "http_5xx",
        "error": "HTTP 500: out of memory",
    }
    return made_record(index, **{**nothing, **failure, **changes})


def whole_reply_record(index: int = 0, **changes: Any) -> RequestRecord:
    """Return a success of `stream: false`: nothing is timed but the end."""
    nothing = dict.fromkeys(("ttft_ms", "ttfa_ms", "tpot_ms", "max_gap_ms"))
    counts = {"token_events": 0, "token_reads": 0, "visible_events": 1}
    return made_record(index, **{**nothing, **counts, **changes})


def made_info(records: Sequence[RequestRecord], **changes: Any) -> RunInfo:
    """Return the info of a healthy run of these records; `scenario` and so on are merged in."""
    counted = _counted(records, changes.get("unmeasured", {}))
    first = records[0] if records else made_record()
    info = RunInfo(
        run_id=first.run_id,
        status="complete",
        session="made",
        scenario={
            "name": first.scenario,
            "model": "openai/gpt-oss-20b",
            "base_url": "http://gpu-host:8000/v1",
            "dataset": "dolly",
            "stream": True,
            "ignore_eos": False,
            "cache": "run",
            "max_new_tokens": first.max_tokens,
            "prefill_tokens": 256,
            "num_requests": len(records),
            "extra_body": {},
            "description": "",
        },
        concurrency=first.concurrency,
        request_rate=first.request_rate,
        plan=made_plan(records),
        num_requests=len(records),
        seeds={"prompts": 0, "sampling": 0},
        prompts={"dataset": "dolly", "sha256": "ab" * 32, "distinct": 1000, "max_uses": 1},
        server={"version": "0.32.0", "model": "openai/gpt-oss-20b", "system_fingerprint": "vllm-1"},
        server_counters={"before": dict.fromkeys(counted, 0.0), "after": counted},
        client={"python": "3.11.0", "git_commit": "0" * 40, "packages": {"uvloop": "0.21"}},
        clock_start=ClockPair(wall_s=NOON_S, monotonic_ns=0),
        clock_end=ClockPair(wall_s=NOON_S + 60, monotonic_ns=60_000_000_000),
    )
    for key in ("scenario", "prompts", "server", "plan"):
        if key in changes:
            changes[key] = {**getattr(info, key), **changes[key]}
    return dataclasses.replace(info, **changes)


def made_plan(records: Sequence[RequestRecord]) -> dict[str, Any]:
    """Return the plan that these records follow: of a closed loop, or of a constant rate."""
    if not records or records[0].request_rate is None:
        return {"shape": "closed", "sha256": "cd" * 32}
    times = [float(r.t_scheduled_s) for r in records]  # numpy's aren't JSON
    rate, cv = realised(times)
    return {
        "shape": "constant",
        "sha256": "cd" * 32,
        "span_s": max(times),
        "realised_rate": rate,
        "realised_cv": cv,
    }


def _counted(records: Sequence[RequestRecord], unmeasured: Mapping[str, int]) -> dict[str, float]:
    """Return what a server counts that has nobody else to serve."""
    successes = [r for r in records if r.error_kind is None]
    beside = {"warmup": 0, "tail": 0, "failed": 0, "prompt_tokens": 0, "completion_tokens": 0}
    beside.update(unmeasured)
    counted = {
        "vllm:prompt_tokens_total": sum(r.prompt_tokens or 0 for r in successes),
        "vllm:generation_tokens_total": sum(r.completion_tokens or 0 for r in successes),
        "vllm:request_success_total": len(successes),
    }
    moved = (
        beside["prompt_tokens"],
        beside["completion_tokens"],
        beside["warmup"] + beside["tail"] - beside["failed"],
    )
    return {name: float(n + more) for (name, n), more in zip(counted.items(), moved, strict=True)}


def as_read(folder: Path, info: RunInfo) -> RunInfo:
    """Return what is read of a run's JSON: without what has a wrong kind."""
    path = folder / "as-read.json"
    write_run_info(path, info)
    return read_what_is_right(path)[0]


def write_run(
    folder: Path,
    records: Sequence[RequestRecord],
    info: RunInfo | None = None,
    *,
    name: str | None = None,
) -> Path:
    """Write a run and return the path of its rows; without `info`, there is no JSON."""
    first = records[0].run_id if records else info.run_id if info else "made"
    run_id = name or first
    if info is not None and info.run_id == first:
        info = dataclasses.replace(info, run_id=run_id)
    path = folder / f"{run_id}.csv"
    writer = RecordWriter(path)
    writer.write(dataclasses.replace(r, run_id=run_id) if r.run_id == first else r for r in records)
    writer.close()
    if info is not None:
        write_run_info(path.with_suffix(".json"), info)
    return path


def gpu_row(t_s: float, **changes: Any) -> GpuRow:
    """Return a reading of a GPU that works at 300 W."""
    index = changes.pop("gpu_index", 0)
    readings: dict[str, Any] = {
        "utilization_percent": 90,
        "memory_used_mb": 70_000.0,
        "temperature_c": 60,
        "power_w": 300.0,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttle_reasons": "none",
    }
    where: dict[str, Any] = {"gpu_index": index, "gpu_uuid": f"GPU-{index}"}
    return GpuRow(t_s=t_s, wall_s=NOON_S + t_s, **where, **{**readings, **changes})


def server_row(t_s: float, engine: str = ALL, **changes: Any) -> ServerRow:
    """Return what a server said at a moment; nothing but `changes` of its own metrics."""
    return ServerRow(t_s=t_s, wall_s=NOON_S + t_s, fetch_ms=2.0, engine=engine, **changes)


def write_gpu_rows(run: Path, rows: Sequence[GpuRow]) -> Path:
    """Write a run's telemetry beside its rows, as the sampler does; return its path."""
    return _write_rows(run.parent / "telemetry" / run.name, GpuRow, rows)


def write_server_rows(run: Path, rows: Sequence[ServerRow]) -> Path:
    """Write a run's server metrics beside its rows, as the sampler does; return their path."""
    return _write_rows(run.parent / "server_metrics" / run.name, ServerRow, rows)


def write_pages(run: Path, pages: Iterable[tuple[float, str]]) -> dict[str, Any]:
    """Write what a server's pages said at these times beside a run's rows, as the sampler does.

    Return what the run's JSON has of it.
    """
    recording = ServerRecording(run.parent / "server_metrics" / f"{run.stem}.csv")
    sampler = ServerMetricsSampler(str, recording)
    for t_s, text in pages:
        sampler._take(Page(text, t_s, NOON_S + t_s, 2.0))
    recording.anchor(0, NOON_S)
    return {"server_metrics": recording.facts()}


def _write_rows(path: Path, kind: type[Any], rows: Sequence[Any]) -> Path:
    file = RowFile(path, kind)
    file.anchor(0.0)
    file.write(rows)
    assert file.problem is None
    return path


def frame_of(folder: Path, records: Sequence[RequestRecord]) -> Rows:
    """Return the records as rows, as reading them from a file gives them."""
    path = folder / "frame.csv"
    path.unlink(missing_ok=True)
    return read_rows(write_run(folder, records, name="frame"))


def made_answer(index: int) -> AnswerRow:
    """Return the row of a right answer to question `index`."""
    return AnswerRow(
        request_index=index,
        prompt_id=f"q{index}",
        right=1,
        found="42",
        unparsed=0,
        cut=0,
        text_sha256="0" * 64,
        tokens=20,
    )


def summed(
    folder: Path, records: Sequence[RequestRecord], info: RunInfo | None = None, **how: Any
) -> RunSummary:
    """Return the summary of a run that was written and read back."""
    return summarize(load_run(write_run(folder, records, info, **how)))


def summary_of(folder: Path, records: Sequence[RequestRecord], **changes: Any) -> RunSummary:
    """Return the same, of a run whose JSON is as usual but for these changes."""
    return summed(folder, records, made_info(records, **changes))
