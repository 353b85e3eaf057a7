"""What samplers record during a run: readings of a GPU, and of the server's /metrics.

One dataclass for each file; its fields are the columns, each with its meaning and its type. The
first is `t_s`, the run's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..row import column_types, doc

ALL = "all"  # the `engine` of a row for all engines together
MOST_NAME = 64  # characters of an engine's name


def engine_name(labels: Mapping[str, str]) -> str:
    """Return the name of the engine whose series has these labels."""
    name = labels.get("engine") or "0"  # older servers with one engine have no label
    return f"engine {name}" if name == ALL else name[:MOST_NAME]


def by_number(engine: str) -> tuple[int, str]:
    """Return a key that puts engines in the order of their numbers."""
    return (int(engine), "") if engine.isdecimal() else (1 << 31, engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One reading. An empty cell is a sensor that this GPU lacks, or that gave no value then.

    In names that end in _mb, a MB is a million bytes; nvidia-smi counts in MiB, 4.9 % more.
    """

    t_s: float = doc("when it was read, from the run's start; negative before")
    wall_s: float = doc("the same moment on the wall clock of the machine that read it")
    gpu_index: int = doc("the GPU's number, as nvidia-smi counts")
    gpu_uuid: str = doc("the GPU's UUID, which stays the same when the number changes")
    utilization_percent: int | None = doc(
        "share of the driver's last period in which any kernel ran; not how full the GPU is",
        default=None,
    )
    memory_used_mb: float | None = doc("device memory in use, by all processes", default=None)
    temperature_c: int | None = doc("temperature of the GPU's core", default=None)
    power_w: float | None = doc(
        "power draw of the board; from Ampere on the driver's mean over the last second",
        default=None,
    )
    energy_j: float | None = doc("energy since the driver was loaded: a counter", default=None)
    sm_clock_mhz: int | None = doc("clock of the multiprocessors", default=None)
    memory_clock_mhz: int | None = doc("clock of the memory", default=None)
    throttle_reasons: str | None = doc(
        "what throttles the clocks now, names with a vertical bar between; none: nothing",
        default=None,
    )
    pcie_tx_kb_s: int | None = doc(
        "sent over PCIe, measured over 20 ms; readings are taken in turn between samples, since "
        "each blocks the driver that long; empty in rows without a reading",
        default=None,
    )
    pcie_rx_kb_s: int | None = doc("received over PCIe; read as pcie_tx_kb_s is", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One engine at one moment. An empty cell is a value that the server doesn't report.

    Means are over the observations that ended since the engine's previous row, and empty where
    there were none; a window's mean is sum(mean x count) / sum(count) over its rows.
    """

    t_s: float = doc("half-way between request and answer, from the run's start; negative before")
    wall_s: float = doc("the same moment on this machine's wall clock")
    fetch_ms: float = doc("time from request to answer: a busy server is slow")
    engine: str = doc("the server's engine (one per data-parallel rank), or all")
    running: float | None = doc("requests in the batch; all: the sum", default=None)
    waiting: float | None = doc("requests in the queue; all: the sum", default=None)
    kv_cache_usage: float | None = doc(
        "share of KV blocks in use, 0-1; all: the mean", default=None
    )
    preemptions_total: float | None = doc("since the server's start", default=None)
    prefix_cache_queries_total: float | None = doc(
        "prompt tokens looked up in the prefix cache since the server's start", default=None
    )
    prefix_cache_hits_total: float | None = doc("of these, the tokens found", default=None)
    prompt_tokens_total: float | None = doc("since the server's start", default=None)
    generation_tokens_total: float | None = doc("since the server's start", default=None)
    ttft_mean_ms: float | None = doc(
        "time to first token by the server's clock, its queue included", default=None
    )
    ttft_count: int | None = doc("first tokens since the previous row", default=None)
    itl_mean_ms: float | None = doc("inter-token latency by the server's clock", default=None)
    itl_count: int | None = doc("inter-token latencies since the previous row", default=None)
    queue_mean_ms: float | None = doc("time in the queue of requests that ended", default=None)
    queue_count: int | None = doc("requests that ended since the previous row", default=None)
    prefill_mean_ms: float | None = doc("prefill time of requests that ended", default=None)
    prefill_count: int | None = doc("requests that ended since the previous row", default=None)
    decode_mean_ms: float | None = doc("decode time of requests that ended", default=None)
    decode_count: int | None = doc("requests that ended since the previous row", default=None)


@dataclass(frozen=True, slots=True)
class SaidRow:
    """A value of one series that isn't the one of the reading before.

    A reading is the rows from one of series 0 to the next. What it has no row for is as it was.
    """

    t_s: float = doc("half-way between request and answer, from the run's start; negative before")
    series: int = doc(
        "number of the series; 0 to 2 are the reading's own: `reading_wall_s`, the moment on this "
        "machine's wall clock, with which each reading begins; `reading_fetch_ms`, from request to "
        "answer; `reading_server`, which of several servers answered, from 1"
    )
    value: str = doc(
        "as the server said it, and as it stays until the series' next row; empty: it is gone"
    )
    engine: str | None = doc(
        "the label `engine`; this and the next two are in a series' first row alone", default=None
    )
    name: str | None = doc("the metric's name as the server spells it", default=None)
    labels: str | None = doc("its other labels, by name", default=None)


def gpu_row(cells: Sequence[str]) -> GpuRow:
    """Return the row that was written as these cells. Raises ValueError."""
    given = zip(_GPU_COLUMNS.items(), cells, strict=True)
    values: dict[str, Any] = {name: kind(cell) for (name, (kind, _)), cell in given if cell}
    try:
        return GpuRow(**values)
    except TypeError as e:  # an empty cell that must not be empty
        raise ValueError(str(e)) from e


_GPU_COLUMNS = column_types(GpuRow)

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
    """Return the names of the reasons; an unknown bit is named by its number."""
    names = [name for bit, name in REASONS.items() if bits & bit]
    unknown = bits & ~sum(REASONS)
    return "|".join([*names, *([f"0x{unknown:x}"] if unknown else [])]) or "none"


# NVML's reasons that slow a GPU with work; "idle" and clocks that a user set aren't among them.
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
    """Return the reasons in a cell of `throttle_reasons` that slow a GPU with work."""
    return SLOWED_BY & set(str(reasons).split("|"))
