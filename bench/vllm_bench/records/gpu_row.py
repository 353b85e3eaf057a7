"""One reading of one GPU: the columns of `results/telemetry/<run_id>.csv`.

All sources give the same rows: NVML here, NVML on the server's machine, a DCGM exporter.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass

from .samples import columns, doc


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


COLUMNS: tuple[str, ...] = columns(GpuRow)

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


def _reader(annotation: object) -> type[int] | type[float] | type[str]:
    kinds = {*typing.get_args(annotation), annotation}
    return float if float in kinds else int if int in kinds else str


_READERS = {name: _reader(hint) for name, hint in typing.get_type_hints(GpuRow).items()}


def row_of_cells(cells: Sequence[str]) -> GpuRow:
    """Return the row that was written as these cells. Raises ValueError."""
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells, not {len(COLUMNS)}")
    given = zip(COLUMNS, cells, strict=True)
    values: dict[str, typing.Any] = {name: _READERS[name](cell) for name, cell in given if cell}
    try:
        return GpuRow(**values)
    except TypeError as e:  # a cell is empty that may not be
        raise ValueError(str(e)) from e
