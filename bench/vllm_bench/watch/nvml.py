"""Readings of this machine's GPUs through NVML, and what its errors mean.

A driver can lack a function, refuse it, lose a GPU, or be unloaded and loaded again under a
running program. Here these are data: an absent sensor, a code, a GPU that is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records.beside.samples import GpuRow, reason_names
from ..records.row import column_types
from ..records.text import printable
from .recording import Problem, UnavailableError

# NVML's error numbers, which never change; older versions of pynvml lack some of the names.
UNINITIALIZED, NO_PERMISSION, FUNCTION_NOT_FOUND = 1, 4, 13
GONE = {
    UNINITIALIZED: "driver_gone",
    6: "gpu_lost",  # NOT_FOUND
    9: "driver_gone",  # DRIVER_NOT_LOADED
    15: "gpu_lost",  # GPU_IS_LOST: no longer on the bus
    16: "reset_required",
    18: "driver_mismatch",  # the driver was updated under the running program
    28: "gpu_lost",  # GPU_NOT_FOUND
}
NO_DRIVER = {
    9: "the NVIDIA driver isn't loaded: nvidia-smi says more",  # DRIVER_NOT_LOADED
    12: "no NVIDIA driver is installed on this machine",  # LIBRARY_NOT_FOUND
    18: "the NVIDIA driver was updated and not loaded again: restart the machine",
}
# What nvidia-ml-py has and the older bindings of the same name lack: nvidia-ml-py3 overwrites its
# file pynvml.py, and the package pynvml before version 12 hides it.
NEEDED = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetHandleByUUID",
    "NVMLError",
)
CURE = "pip uninstall nvidia-ml-py3 pynvml, then pip install --force-reinstall nvidia-ml-py"
# What a binding raises, besides its own error, where it doesn't fit the driver.
UNFIT = (AttributeError, TypeError, ValueError, LookupError, ArithmeticError, OSError)
COLUMNS = column_types(GpuRow)
MOST = {"utilization_percent": 100.0}  # of a reading that can be true
MOST_OTHERWISE = 1e15
ABSENT = {2, 3, FUNCTION_NOT_FOUND, 25, 29}  # invalid for this GPU, not supported, not found
MIG_ENABLED = 1
MOST_NAME = 100  # characters


class GpuGoneError(Exception):
    """A GPU that gives no readings at the moment."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Gpu:
    """A GPU that is being read. Its number can change with a restart, its UUID can't."""

    index: int
    uuid: str
    name: str
    handle: Any
    absent: set[str] = field(default_factory=set)  # columns that it has no sensor for


def _throttle_bits(nvml: Any, handle: Any) -> str:
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError as e:
        if e.value != FUNCTION_NOT_FOUND:
            raise
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)  # drivers before 535
    return reason_names(bits)


Sensor = Callable[[Any, Any], object]
SENSORS: dict[str, Sensor] = {
    "utilization_percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "memory_used_mb": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / 1e6,
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, 0),  # 0: the core
    "power_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    "energy_j": lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
    "sm_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "throttle_reasons": _throttle_bits,
}
PCIE: dict[str, Sensor] = {  # each blocks the driver for 20 ms: see gpu.py
    "pcie_tx_kb_s": lambda nvml, gpu: nvml.nvmlDeviceGetPcieThroughput(gpu, 0),
    "pcie_rx_kb_s": lambda nvml, gpu: nvml.nvmlDeviceGetPcieThroughput(gpu, 1),
}


class Nvml:
    """NVML, opened; only for one thread."""

    def __init__(self, on_problem: Callable[[Problem], None]) -> None:
        """Load and open NVML. Raises UnavailableError where there is no driver."""
        try:
            import pynvml
        except ImportError as e:
            text = "the package nvidia-ml-py is not installed: make install"
            raise UnavailableError("no_nvml", text) from e
        except SyntaxError as e:  # a binding for Python 2
            raise UnavailableError("old_pynvml", f"pynvml can't be imported ({e}): {CURE}") from e
        lacks = [name for name in NEEDED if not hasattr(pynvml, name)]
        if lacks:
            where = getattr(pynvml, "__file__", None) or "pynvml"
            text = f"{where} is an old binding that lacks {lacks[0]}: {CURE}"
            raise UnavailableError("old_pynvml", text)
        self._nvml: Any = pynvml
        self._tell = on_problem
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as e:
            plain = NO_DRIVER.get(e.value)
            text = f"{plain} (NVML: {e})" if plain else f"NVML: {e}"
            raise UnavailableError("no_nvml", text) from e

    def close(self) -> None:
        """Close NVML; its errors at this point are of no use."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def reopen(self) -> None:
        """Close and open NVML, for a driver that was loaded anew. Raises GpuGoneError."""
        self.close()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as e:
            raise GpuGoneError(GONE.get(e.value, "driver_gone")) from e

    def gpus(self, wanted: Sequence[int] | None) -> list[Gpu]:
        """Return the GPUs, or only those wanted; one that can't be opened is reported and left out.

        Raises UnavailableError where none is left.
        """
        try:
            count = int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as e:
            raise UnavailableError("no_nvml", f"NVML: {e}") from e
        for index in wanted or ():
            if index >= count:
                text = f"there is no GPU {index}: the machine has {count}, counted from 0"
                self._tell(Problem("gpu_missing", text, index))
        there = [i for i in range(count) if wanted is None or i in wanted]
        found = [gpu for i in there if (gpu := self._find(i)) is not None]
        if not found:
            raise UnavailableError("no_gpu", "NVML shows no GPU that can be read")
        return found

    def find_again(self, gpu: Gpu) -> None:
        """Get a new handle of a GPU that was gone. Raises GpuGoneError."""
        nvml = self._nvml
        try:
            gpu.handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        except nvml.NVMLError as e:
            raise GpuGoneError(GONE.get(e.value, "gpu_lost")) from e

    def read(self, gpu: Gpu) -> dict[str, Any]:
        """Return the current values of the GPU's sensors. Raises GpuGoneError."""
        asked = [c for c in SENSORS if c not in gpu.absent]
        readings = ((column, self.sense(gpu, column, SENSORS[column])) for column in asked)
        found = {column: value for column, value in readings if value is not None}
        if asked and not found and gpu.absent.isdisjoint(asked):
            raise GpuGoneError("no_answer")
        return found

    def sense(self, gpu: Gpu, column: str, sensor: Sensor) -> object | None:
        """Return one sensor's value; None: it gave none. Raises GpuGoneError.

        A sensor that the GPU lacks, or that we may not read, is noted and not read again.
        """
        try:
            return _plausible(column, sensor(self._nvml, gpu.handle))
        except self._nvml.NVMLError as e:
            if e.value in GONE:
                raise GpuGoneError(GONE[e.value]) from e
            if e.value == NO_PERMISSION:
                text = f"GPU {gpu.index}: the driver doesn't permit reading {column}"
                self._tell(Problem("no_permission", text, gpu.index))
            if e.value in ABSENT or e.value == NO_PERMISSION:
                gpu.absent.add(column)
            return None  # it may have a value at the next tick
        except UNFIT as e:
            why = f"GPU {gpu.index}: {column} can't be read: {type(e).__name__}: {e}"
            self._tell(Problem("sensor_failed", why, gpu.index))
            gpu.absent.add(column)
            return None

    def _find(self, index: int) -> Gpu | None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle)) or f"GPU {index}"
            gpu = Gpu(index, uuid, _text(nvml.nvmlDeviceGetName(handle)), handle)
        except nvml.NVMLError as e:
            code = "no_permission" if e.value == NO_PERMISSION else GONE.get(e.value, "no_answer")
            self._tell(Problem(code, f"GPU {index} can't be opened: NVML: {e}", index))
            return None
        if self._is_split(handle):
            text = (
                f"GPU {index} is split by MIG: its readings are the whole board's, of which the "
                "server may hold a slice"
            )
            self._tell(Problem("mig", text, index))
        return gpu

    def _is_split(self, handle: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(handle)[0] == MIG_ENABLED)
        except self._nvml.NVMLError:
            return False  # a GPU or driver without MIG


def _plausible(column: str, value: object) -> object | None:
    """Return a reading as its column has it; None where it can't be true.

    Raises TypeError where it is none at all.
    """
    kind, _ = COLUMNS[column]
    if kind is str and isinstance(value, str):
        return value
    if kind is str or isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a reading: {value!r}")
    return kind(value) if 0 <= value <= MOST.get(column, MOST_OTHERWISE) else None


def open_gpus(
    wanted: Sequence[int] | None, on_problem: Callable[[Problem], None]
) -> tuple[Nvml, list[Gpu]]:
    """Open NVML and find the GPUs. On UnavailableError nothing is left open."""
    nvml = Nvml(on_problem)
    try:
        return nvml, nvml.gpus(wanted)
    except UnavailableError:
        nvml.close()
        raise


def _text(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return printable(text, MOST_NAME)
