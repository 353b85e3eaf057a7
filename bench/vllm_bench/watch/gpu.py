"""Samples this machine's GPUs during a run: NVML on its own thread, at absolute ticks.

A lost GPU is a gap; the others go on, and it is looked for again once per second.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..records.beside.samples import GpuRow
from .nvml import PCIE, Gpu, GpuGoneError, Nvml, open_gpus
from .recording import GpuFacts, GpuSink, Problem, UnavailableError
from .tick import Ticker

START_LIMIT_S = 30.0  # a driver without its persistence daemon takes seconds to start
STOP_LIMIT_S = 5.0  # a driver that hangs must not delay a run's end
RETRY_S = 1.0
PCIE_READING_S = 0.025  # NVML counts over 20 ms, and blocks the driver that long


class GpuSampler:
    """Samples from start to stop, and passes what it finds to a sink."""

    def __init__(
        self,
        sink: GpuSink,
        hz: float,
        wanted: Sequence[int] | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        """Prepare; `wanted` are the indexes of GPUs; None: all."""
        self._sink = sink
        self._wanted = wanted
        self._hz = hz
        self._retry_s = retry_s
        self._ticker = Ticker(self.sample, hz, "gpu-sampler")
        self._nvml: Nvml | None = None
        self._gpus: list[Gpu] = []
        self._gone: dict[int, float] = {}  # when to look for a lost GPU again, by index
        self._pcie = PcieTurns()
        self._told_absent = 0
        self._unavailable: UnavailableError | None = None

    def start(self) -> None:
        """Open NVML and take the first sample. Raises UnavailableError."""
        answered = self._ticker.start(START_LIMIT_S)
        if not answered or self._nvml is None:
            self._ticker.end()
        if not answered:
            raise UnavailableError("stuck", f"the driver gave no answer in {START_LIMIT_S:g} s")
        if self._unavailable is not None:
            raise self._unavailable
        if self._nvml is None:
            raise UnavailableError("reading_failed", f"NVML: {self._ticker.failures.words}")

    def stop(self) -> None:
        if not self._ticker.stop(STOP_LIMIT_S):
            text = f"the GPU driver hangs: it gave no answer in the last {STOP_LIMIT_S:g} s"
            self._sink.problem(Problem("stuck", text))
        elif self._nvml is not None:
            self._nvml.close()
        failed = self._ticker.failures.words
        if failed:
            self._sink.problem(Problem("reading_failed", f"GPUs: {failed}"))

    def sample(self) -> None:
        """Read each GPU once; the thread calls this at each tick."""
        nvml = self._opened()
        if nvml is None:
            return
        rows = [row for gpu in self._gpus if (row := self._row(nvml, gpu)) is not None]
        self._tell_absent()
        self._sink.rows(rows)
        there = [gpu for gpu in self._gpus if gpu.index not in self._gone]
        self._pcie.read_one(nvml, there, self._ticker.left_s())

    def _opened(self) -> Nvml | None:
        if self._nvml is None and self._unavailable is None:
            try:
                self._nvml, self._gpus = open_gpus(self._wanted, self._sink.problem)
            except UnavailableError as e:
                self._unavailable = e
                self._ticker.end()
        return self._nvml

    def _row(self, nvml: Nvml, gpu: Gpu) -> GpuRow | None:
        t_s, wall_s = time.perf_counter(), time.time()  # just before its sensors are read
        try:
            if gpu.index in self._gone:
                if t_s < self._gone[gpu.index]:
                    return None
                self._look_again(nvml, gpu)
            values = nvml.read(gpu)
        except GpuGoneError as e:
            self._lose(gpu, e.code, t_s)
            return None
        self._gone.pop(gpu.index, None)
        return GpuRow(
            t_s=t_s,
            wall_s=wall_s,
            gpu_index=gpu.index,
            gpu_uuid=gpu.uuid,
            **values,
            **self._pcie.take(gpu),  # type: ignore[arg-type]
        )

    def _look_again(self, nvml: Nvml, gpu: Gpu) -> None:
        """Find a GPU that was gone. Raises GpuGoneError."""
        if len(self._gone) == len(self._gpus):  # then no handle is lost by opening NVML anew
            nvml.reopen()
        nvml.find_again(gpu)

    def _lose(self, gpu: Gpu, code: str, t_s: float) -> None:
        if gpu.index not in self._gone:
            self._sink.missed(gpu.index, code)
            text = f"GPU {gpu.index} ({gpu.uuid}) stopped answering: {code}"
            self._sink.problem(Problem(code, text, gpu.index))
        self._gone[gpu.index] = t_s + self._retry_s

    def _tell_absent(self) -> None:
        """Pass on which GPUs there are, and again when a sensor is found to be missing."""
        absent = 1 + sum(len(gpu.absent) for gpu in self._gpus)
        if absent != self._told_absent:
            self._told_absent = absent
            self._sink.gpus(
                [GpuFacts(g.index, g.uuid, g.name, tuple(sorted(g.absent))) for g in self._gpus],
                self._hz,
            )


class PcieTurns:
    """One PCIe reading between two samples: the GPU whose turn it is, and the values read."""

    def __init__(self) -> None:
        self._turn = 0
        self._takes_s = PCIE_READING_S
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
            return  # the next sample notices and reports it
        self._takes_s = max(self._takes_s, time.perf_counter() - began_s)
        if value is not None:
            self._fresh.setdefault(gpu.index, {})[column] = value

    def take(self, gpu: Gpu) -> dict[str, object]:
        return self._fresh.pop(gpu.index, {})
