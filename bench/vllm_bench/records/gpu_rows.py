"""The GPU samples beside a run, as the verdict, the summary and the pictures ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .sampled import read_samples

if TYPE_CHECKING:
    import pandas as pd

# What each sensor means: `summarize.py --columns`. A cell is NaN where a GPU has no such sensor.
SENSORS = (
    "utilization_percent",
    "memory_used_mb",
    "temperature_c",
    "power_w",
    "energy_j",  # a counter, from the driver's start
    "sm_clock_mhz",
    "memory_clock_mhz",
    "pcie_tx_kb_s",
    "pcie_rx_kb_s",
)
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
DTYPES = {
    "t_s": "float64",
    "gpu_index": "int64",
    "gpu_uuid": "string",
    **dict.fromkeys(SENSORS, "float64"),
    "throttle_reasons": "string",  # names with a bar between, `none`; NA: the driver didn't say
}


def read_gpu_rows(run: Path) -> pd.DataFrame | None:
    """Read `telemetry/<run_id>.csv`, by rising t_s; None where nothing was sampled.

    Raises RecordsError.
    """
    return read_samples(run.parent / "telemetry" / f"{run.stem}.csv", "GPU samples", DTYPES)


def slowed_by(reasons: object) -> frozenset[str]:
    """Return what slowed a GPU that had work, of a cell of `throttle_reasons`."""
    return SLOWED_BY & set(str(reasons).split("|"))
