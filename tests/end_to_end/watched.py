"""Runs made up with samples beside them: 100 s of four streams, on virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vllm_bench.records.beside.samples import GpuRow, ServerRow
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import RunSummary, summarize

from tests.support.made_runs import (
    gpu_row,
    made_info,
    whole_reply_record,
    write_gpu_rows,
    write_run,
    write_server_rows,
)

TENTHS = [tenth / 10 for tenth in range(-10, 1030)]  # 10 Hz, from before the run to after it


def observed_gpus(*indexes: int, **noted: Any) -> dict[str, Any]:
    """Return what the GPU sampler notes of GPUs that it read without trouble."""
    gpus = [{"index": i, "uuid": f"GPU-{i}", "name": "H100", "absent": []} for i in indexes]
    healthy = {"source": "nvml", "rows": 1, "hz": 10.0, "gpus": gpus, "problems": [], "gaps": []}
    return {"gpu": {**healthy, **noted}}


def gpu(index: int = 0, times: Iterable[float] = TENTHS, **changes: Any) -> list[GpuRow]:
    """Return a GPU's readings; a change may be a function of time."""
    return [
        gpu_row(t, gpu_index=index, **{k: v(t) if callable(v) else v for k, v in changes.items()})
        for t in times
    ]


def watched(
    folder: Path,
    gpus: Sequence[GpuRow] | None = None,
    metrics: Sequence[ServerRow] | None = None,
    requests: int = 400,
    **changes: Any,
) -> RunSummary:
    """Return the summary of a run: a request each 250 ms, a second each, 20 tokens in one piece."""
    records = [whole_reply_record(i) for i in range(requests)]
    scenario = {"stream": False, **changes.pop("scenario", {})}
    info = made_info(records, scenario=scenario, **changes)
    path = write_run(folder, records, info)
    if gpus is not None:
        write_gpu_rows(path, sorted(gpus, key=lambda row: row.t_s))
    if metrics is not None:
        write_server_rows(path, metrics)
    return summarize(load_run(path))


def counted(watts: float, start_j: float = 5e6) -> Any:
    """Return a counter over time, of a constant power."""
    return lambda t_s: start_j + watts * t_s


def wave(mean_w: float, swing_w: float) -> Any:
    """Return a power over time, that swings around its mean once in 8 s."""
    return lambda t_s: mean_w + swing_w * float(np.sin(2 * np.pi * t_s / 8))
