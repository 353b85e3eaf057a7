"""PCIe readings in the time that is left between two samples.

One reading holds the driver for 20 ms, two a GPU: eight GPUs would take 320 ms a sample. So
they are taken in turn, one a tick, and only where it ends before the next sample is due.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from .nvml import PCIE, Gpu, GpuGoneError, Nvml

EXPECTED_S = 0.025


class PcieTurns:
    """Whose turn it is, and what was read since that GPU's last row."""

    def __init__(self) -> None:
        """Start with the first GPU."""
        self._turn = 0
        self._takes_s = EXPECTED_S
        self._fresh: dict[int, dict[str, object]] = {}

    def read_one(self, nvml: Nvml, gpus: Sequence[Gpu], left_s: float) -> None:
        """Take one reading of the GPUs given, if the time left is enough for it."""
        turns = [(gpu, c) for gpu in gpus for c in PCIE if c not in gpu.absent]
        if not turns or left_s < self._takes_s:
            return
        self._turn += 1
        gpu, column = turns[self._turn % len(turns)]
        began_s = time.perf_counter()
        try:
            value = nvml.sense(gpu, column, PCIE[column])
        except GpuGoneError:
            return  # the next sample finds it gone, too, and says so
        self._takes_s = max(self._takes_s, time.perf_counter() - began_s)
        if value is not None:
            self._fresh.setdefault(gpu.index, {})[column] = value

    def take(self, gpu: Gpu) -> dict[str, object]:
        """Return what was read of the GPU since the last call."""
        return self._fresh.pop(gpu.index, {})
