"""GPU telemetry through NVML: a thread of its own writes `results/telemetry/<run_id>.csv`.

`utilization.gpu` means that some kernel ran during the last sample period, not
that the GPU was full.
"""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

COLUMNS = (
    "t_s",
    "gpu_index",
    "gpu_uuid",
    "utilization_percent",
    "memory_used_mb",
    "temperature_c",
    "power_w",
)


class GpuUnavailableError(Exception):
    """No GPU can be watched here; the text says why in one line."""


def open_nvml() -> ModuleType:
    """Load NVML. Raises GpuUnavailableError where there is no driver or no GPU."""
    try:
        import pynvml
    except ImportError as e:
        raise GpuUnavailableError("the package nvidia-ml-py is not installed") from e
    nvml: ModuleType = pynvml
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as e:
        raise GpuUnavailableError(f"NVML: {e}") from e
    if count == 0:
        raise GpuUnavailableError("NVML sees no GPU")
    return nvml


class GpuSampler:
    """Samples every GPU at `hz` from entering to leaving; a sensor that fails is an empty cell."""

    def __init__(self, nvml: Any, path: Path, start_ns: int, hz: float = 10.0) -> None:
        """Prepare to write `path`; times count from `start_ns` of the run's clock.

        Raises GpuUnavailableError where a GPU can't be opened.
        """
        self._nvml = nvml
        self._path = path
        self._start_ns = start_ns
        self._period_s = 1.0 / hz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self.problem: str | None = None  # why the sampling ended early
        try:
            self._gpus = [self._open(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as e:
            raise GpuUnavailableError(f"NVML: {e}") from e

    def __enter__(self) -> GpuSampler:
        """Start sampling."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Stop sampling; the file is complete afterwards."""
        self._stop.set()
        self._thread.join()

    def _open(self, index: int) -> tuple[int, str, Any]:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        return index, uuid.decode() if isinstance(uuid, bytes) else str(uuid), handle

    def _sample_until_stopped(self) -> None:
        try:
            with self._path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                while not self._stop.wait(self._period_s):
                    writer.writerows(self._rows())
                    file.flush()
        except OSError as e:
            self.problem = f"GPU telemetry ended early: {e}"

    def _rows(self) -> list[Sequence[object]]:
        return [self._row(*gpu) for gpu in self._gpus]

    def _row(self, index: int, uuid: str, handle: Any) -> Sequence[object]:
        nvml = self._nvml
        t_s = (time.perf_counter_ns() - self._start_ns) / 1e9
        return (
            f"{t_s:.6f}",
            index,
            uuid,
            self._read(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            self._read(lambda: round(nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6, 1)),
            self._read(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            self._read(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        )

    def _read(self, sensor: Callable[[], object]) -> object:
        try:
            return sensor()
        except self._nvml.NVMLError:
            return ""  # this GPU has no such sensor, or has just gone
