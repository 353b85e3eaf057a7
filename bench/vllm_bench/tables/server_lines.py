"""What the server and its GPUs did: a table with a figure a row, and what to mind about it."""

from __future__ import annotations

from collections.abc import Iterable

from ..figures.absent import observed
from ..serverside.energy import SENSOR_NOTE, Cost, Energy
from ..serverside.gpu import GpuSide
from ..summary.levels import Series
from ..summary.summary import RunSummary
from .group import Where
from .text_tables import figure_rows

FEW = 5  # with fewer readings, their number is told
COVERED = 0.95  # of the window; a GPU with less of it covered is named


def server_rows(series: Series) -> list[list[str]]:
    """Return a row per figure with a cell for each run, headings first; nothing without samples."""
    rows = figure_rows(series, Where.SERVER) if any(map(_watched, series.runs)) else []
    if not any(run.gpu_side.expected for run in series.runs):
        rows = [row for row in rows if not row[0].startswith("GPUs ")]
    return [["", *(words for words, _ in series.run_words)], *rows] if rows else []


def server_lines(series: Series) -> list[str]:
    """Return what is missing or odd in each run with samples or a price."""
    lines = [f"{words}: {line}" for words, run in series.run_words for line in _lines(run)]
    measured = any(run.energy.window_j is not None for run in series.runs)
    return [*lines, SENSOR_NOTE] if measured else lines


def _watched(run: RunSummary) -> bool:
    return run.server_side.sampled or bool(run.gpu_side.gpus) or _priced(run.cost)


def _priced(cost: Cost) -> bool:
    return cost.gpu_hour_price is not None and cost.per_million_output_tokens is not None


def _lines(run: RunSummary) -> Iterable[str]:
    side = run.server_side
    if side.sampled and side.samples < FEW:
        yield f"the server's means are of {side.samples} readings"
    elif not side.sampled and observed(run.info, "server_metrics").noted.get("rows"):
        yield f"no server figures: {side.absent['running_mean']}"
    if run.gpu_side.gpus:
        yield from _doubtful(run.gpu_side)
        yield from _no_energy(run.energy)
    if run.cost.gpu_hour_price is not None and not _priced(run.cost):
        yield f"no cost: {run.cost.absent['per_million_output_tokens']}"


def _doubtful(side: GpuSide) -> Iterable[str]:
    """Yield a line on each GPU that was throttled or sampled only in part, and on idle ones."""
    for gpu in side.gpus:
        if gpu.throttled_by:
            by = ", ".join(f"{r} {_percent(share)}" for r, share in gpu.throttled_by.items())
            share = _percent(gpu.throttled_share)
            yield f"GPU {gpu.index}'s clocks were throttled in {share} of its readings: {by}"
        if gpu.covered_share < COVERED:
            yield f"GPU {gpu.index} was sampled for only {_percent(gpu.covered_share)} of the time"
    idle = [str(gpu.index) for gpu in side.gpus if gpu.utilization_peak_percent == 0]
    if idle and len(idle) < len(side.gpus):
        yield (
            f"GPU {', '.join(idle)} did nothing but is in these figures: if the server doesn't "
            "use it, name the others with telemetry_gpus"
        )


def _no_energy(found: Energy) -> Iterable[str]:
    if found.window_j is None:
        yield f"no energy: {found.absent['window_j']}"
    elif found.per_output_token_j is None:
        yield f"no energy per token: {found.absent['per_output_token_j']}"
    else:
        yield f"energy by {found.source}"


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.3g} %"
