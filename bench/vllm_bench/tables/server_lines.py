"""Lines on what the server and its GPUs did at each level; none where nothing was sampled."""

from __future__ import annotations

from collections.abc import Iterable

from ..figures.absent import observed
from ..figures.digits import counted, short
from ..serverside.energy import SENSOR_NOTE, Cost, Energy
from ..serverside.gpu import GpuSide
from ..serverside.server import ServerSide
from ..summary.levels import Series
from ..summary.summary import RunSummary

FEW = 5  # with fewer readings, a mean over time also shows their number
COVERED = 0.95  # of the window; a GPU with less of it covered is named


def server_lines(series: Series) -> list[str]:
    """Return a few lines for each run with samples or a price, and notes on them."""
    lines = [f"{words}: {line}" for words, run in series.run_words for line in _lines(run)]
    measured = any(run.energy.window_j is not None for run in series.runs)
    return [*lines, SENSOR_NOTE] if measured else lines


def _lines(run: RunSummary) -> Iterable[str]:
    if run.server_side.sampled:
        yield _server(run.server_side)
    elif observed(run.info, "server_metrics").noted.get("rows"):
        yield f"no server figures: {run.server_side.absent['running_mean']}"
    if run.gpu_side.gpus:
        yield _gpus(run.gpu_side)
        yield from _doubtful(run.gpu_side)
        yield _energy(run.energy)
    yield from _cost(run.cost)


def _server(side: ServerSide) -> str:
    parts = [_ttft(side)]
    if side.kv_cache_mean is not None:
        parts.append(f"KV cache {_percent(side.kv_cache_mean)} ({_percent(side.kv_cache_peak)})")
    for what in ("running", "waiting"):
        mean, peak = getattr(side, f"{what}_mean"), getattr(side, f"{what}_peak")
        parts += [f"{what} {short(mean)} ({short(peak)})"] if mean is not None else []
    if side.prefix_cache_hit_rate is not None:
        parts.append(f"prefix cache hits {_percent(side.prefix_cache_hit_rate)}")
    if side.preemptions:
        parts.append(counted(side.preemptions, "preemption"))
    few = f" ({side.samples} readings)" if side.samples < FEW else ""
    return f"server, mean (peak){few}: " + "; ".join(part for part in parts if part)


def _ttft(side: ServerSide) -> str:
    if side.ttft_mean_ms is None:
        return ""
    words = f"TTFT {short(side.ttft_mean_ms)} ms"
    if side.client_ttft_mean_ms is not None:
        words += f" of the client's {short(side.client_ttft_mean_ms)}"
    if side.queue_mean_ms is not None:
        share = side.queue_share_of_ttft
        words += f", queue {short(side.queue_mean_ms)} ms"
        words += f" ({_percent(share)} of it)" if share is not None else ""
    return words


def _gpus(side: GpuSide) -> str:
    parts = [
        f"{what} {short(scale * mean)} {unit} ({short(scale * (peak or 0))})"
        for what, mean, peak, unit, scale in (
            ("busy", side.utilization_mean_percent, side.utilization_peak_percent, "%", 1),
            ("power", side.power_mean_w, side.power_peak_w, "W", 1),
            ("heat", side.temperature_mean_c, side.temperature_peak_c, "°C", 1),
            ("memory", side.memory_mean_mb, side.memory_peak_mb, "GB", 1e-3),
            ("SM clock", side.sm_clock_mean_mhz, side.sm_clock_peak_mhz, "MHz", 1),
        )
        if mean is not None
    ]
    count = counted(side.seen, "GPU")
    if side.seen < side.expected:
        count += f" of {side.expected}"
    together = ""
    if side.seen > 1 and side.power_total_w is not None:
        together = f"; together {short(side.power_total_w)} W"
    return f"{count}, mean (peak): {', '.join(parts) or 'no sensor'}{together}"


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


def _energy(found: Energy) -> str:
    if found.window_j is None:
        return f"no energy: {found.absent['window_j']}"
    words = f"{short(found.window_j)} J in the steady window, by {found.source}"
    if found.per_output_token_j is not None and found.output_tokens_per_s_per_w is not None:
        words += (
            f": {found.per_output_token_j:.3g} J per output token, "
            f"{found.output_tokens_per_s_per_w:.3g} tokens/s/W"
        )
    else:
        words += f"; unknown per token: {found.absent['per_output_token_j']}"
    if found.per_request_j is not None:
        words += f", {found.per_request_j:.3g} J per request"
    return words


def _cost(found: Cost) -> Iterable[str]:
    if found.gpu_hour_price is None:
        return
    if found.per_million_output_tokens is None:
        yield f"no cost: {found.absent['per_million_output_tokens']}"
        return
    yield (
        f"{found.per_million_output_tokens:.3g} per million output tokens at "
        f"{found.gpu_hour_price:g} per GPU hour, {short(found.output_tokens_per_s_per_gpu)} "
        f"tokens/s per GPU ({found.gpus} in all)"
    )


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.3g} %"
