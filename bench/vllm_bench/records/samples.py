"""What samplers see beside a run: a reading of a GPU, and one of the server's /metrics.

One dataclass for each file; its fields are the columns, each with its meaning and its type. The
first is `t_s`, the run's own clock.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .row import columns, doc

ALL = "all"  # the engine of a row that is of all engines together


def dtypes(kind: type[Any]) -> dict[str, str]:
    """Return each column's pandas type: numbers that may be missing are floats."""
    hints = typing.get_type_hints(kind)
    return {name: _dtype(hints[name]) for name in columns(kind)}


def _dtype(hint: object) -> str:
    kinds = typing.get_args(hint) or (hint,)
    if str in kinds:
        return "string"
    return "int64" if kinds == (int,) else "float64"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One reading. An empty cell is a sensor that this GPU lacks, or that gave nothing just then.

    Where a name ends in _mb, a MB is a million bytes; nvidia-smi counts in MiB, 4.9 % more.
    """

    t_s: float = doc("when it was read, from the run's start; negative before")
    wall_s: float = doc("the same moment on the wall clock of the machine that read it")
    gpu_index: int = doc("the GPU's number, as nvidia-smi counts")
    gpu_uuid: str = doc("the GPU's own name, which stays whatever the number")
    utilization_percent: int | None = doc(
        "share of the driver's last period in which some kernel ran; not how full the GPU is",
        default=None,
    )
    memory_used_mb: float | None = doc("device memory in use, by whomever", default=None)
    temperature_c: int | None = doc("temperature of the GPU's core", default=None)
    power_w: float | None = doc(
        "power draw of the board; from Ampere on the driver's mean over the last second",
        default=None,
    )
    energy_j: float | None = doc("energy since the driver was loaded: a counter", default=None)
    sm_clock_mhz: int | None = doc("clock of the multiprocessors", default=None)
    memory_clock_mhz: int | None = doc("clock of the memory", default=None)
    throttle_reasons: str | None = doc(
        "what holds the clocks down just now, names with a vertical bar between; none: nothing",
        default=None,
    )
    pcie_tx_kb_s: int | None = doc(
        "sent over PCIe, over 20 ms; readings are taken in turn between the samples, since each "
        "holds the driver so long, and a row without one is empty",
        default=None,
    )
    pcie_rx_kb_s: int | None = doc("received over PCIe; read as pcie_tx_kb_s is", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One engine at one moment. An empty cell is a value that the server doesn't give.

    Means are over the observations that ended since the engine's row before, and empty where
    there was none; a window's mean is the sum of mean times count over its rows by that of count.
    """

    t_s: float = doc("half-way between question and answer, from the run's start; negative before")
    wall_s: float = doc("the same moment on this machine's wall clock")
    fetch_ms: float = doc("from question to answer: a busy server takes its time")
    engine: str = doc("the server's engine (one each data-parallel rank), or all of them")
    running: float | None = doc("requests in the batch; all: the sum", default=None)
    waiting: float | None = doc("requests in the queue; all: the sum", default=None)
    kv_cache_usage: float | None = doc(
        "share of KV blocks in use, 0-1; all: the mean", default=None
    )
    preemptions_total: float | None = doc("since the server's start", default=None)
    prefix_cache_queries_total: float | None = doc(
        "prompt tokens looked up in the prefix cache since the server's start", default=None
    )
    prefix_cache_hits_total: float | None = doc("of these, found", default=None)
    prompt_tokens_total: float | None = doc("since the server's start", default=None)
    generation_tokens_total: float | None = doc("since the server's start", default=None)
    ttft_mean_ms: float | None = doc(
        "time to first token by the server's clock, its queue included", default=None
    )
    ttft_count: int | None = doc("first tokens since the row before", default=None)
    itl_mean_ms: float | None = doc("inter-token latency by the server's clock", default=None)
    itl_count: int | None = doc("inter-token latencies since the row before", default=None)
    queue_mean_ms: float | None = doc("time in the queue of requests that ended", default=None)
    queue_count: int | None = doc("requests that ended since the row before", default=None)
    prefill_mean_ms: float | None = doc("prefill time of requests that ended", default=None)
    prefill_count: int | None = doc("requests that ended since the row before", default=None)
    decode_mean_ms: float | None = doc("decode time of requests that ended", default=None)
    decode_count: int | None = doc("requests that ended since the row before", default=None)


def gpu_row(cells: Sequence[str]) -> GpuRow:
    """Return the row that was written as these cells. Raises ValueError."""
    names = columns(GpuRow)
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} cells, not {len(names)}")
    given = zip(names, cells, strict=True)
    values: dict[str, Any] = {name: _READERS[name](cell) for name, cell in given if cell}
    try:
        return GpuRow(**values)
    except TypeError as e:  # a cell is empty that may not be
        raise ValueError(str(e)) from e


def _reader(hint: object) -> type[int] | type[float] | type[str]:
    kinds = typing.get_args(hint) or (hint,)
    return float if float in kinds else int if int in kinds else str


_READERS = {name: _reader(hint) for name, hint in typing.get_type_hints(GpuRow).items()}

# Bits of NVML's clocks event reasons, which older drivers call clocks throttle reasons.
REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}


def reason_names(bits: int) -> str:
    """Return the names of the reasons; a bit that this doesn't know is named by its number."""
    names = [name for bit, name in REASONS.items() if bits & bit]
    unknown = bits & ~sum(REASONS)
    return "|".join([*names, *([f"0x{unknown:x}"] if unknown else [])]) or "none"


# NVML's reasons that slow a GPU that has work; an idle one, and clocks that somebody set, do not.
SLOWED_BY = frozenset(
    {
        "sw_power_cap",
        "hw_slowdown",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "reliability",
    }
)


def slowed_by(reasons: object) -> frozenset[str]:
    """Return what slowed a GPU that had work, of a cell of `throttle_reasons`."""
    return SLOWED_BY & set(str(reasons).split("|"))
