"""Where GPU rows go: to the run's file, and to the account of what was and wasn't read."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..records.sample_file import RowFile
from ..records.samples import GpuRow
from .gaps import GapLog, Problem

# Readings further apart are a gap: a few samples at the usual 10 Hz, and less than the 3 s that
# would void an energy.
GAP_S = 1.0


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What a GPU is, and which columns it has no sensor for."""

    index: int
    uuid: str
    name: str | None
    absent: tuple[str, ...] = ()


class GpuSink(Protocol):
    """Takes what a sampler finds."""

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        """Take the GPUs that are read, so many times a second."""

    def rows(self, rows: Sequence[GpuRow]) -> None:
        """Take readings; `t_s` is on the sampler's clock."""

    def missed(self, gpu_index: int, code: str) -> None:
        """Take note that a GPU has stopped answering."""

    def problem(self, problem: Problem) -> None:
        """Take note of something to tell."""


class GpuRecording:
    """One run's telemetry. Safe to use from several threads; nothing here raises."""

    def __init__(
        self,
        path: Path,
        source: str,
        clock: Literal["monotonic", "wall"] = "monotonic",
    ) -> None:
        """Prepare to write `path` with rows whose `t_s` is on this clock."""
        self._file = RowFile(path, GpuRow)
        self._source = source
        self._hz: float | None = None
        self._clock = clock
        self._zero_s: float | None = None
        self._gaps = GapLog(GAP_S)
        self._gpus: dict[str, GpuFacts] = {}
        self.problems: list[Problem] = []
        self._lock = threading.Lock()

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        """Take the GPUs that are read; of one that is known, the latest is kept."""
        with self._lock:
            self._hz = hz
            self._gaps.limit_s = max(GAP_S, 3 / hz)
            self._gpus.update((gpu.uuid, gpu) for gpu in found)

    def rows(self, rows: Sequence[GpuRow]) -> None:
        """Write rows."""
        with self._lock:
            for row in rows:
                self._gaps.seen(row.gpu_index, row.t_s)
                if row.gpu_uuid not in self._gpus:
                    self._gpus[row.gpu_uuid] = GpuFacts(row.gpu_index, row.gpu_uuid, None)
        self._file.write(rows)

    def missed(self, gpu_index: int, code: str) -> None:
        """Note that a GPU has stopped answering."""
        with self._lock:
            self._gaps.missed(gpu_index, code)

    def problem(self, problem: Problem) -> None:
        """Keep a problem, once."""
        with self._lock:
            if problem not in self.problems:
                self.problems.append(problem)

    def anchor(self, start_ns: int, start_wall_s: float) -> None:
        """Say when the run starts: one moment on both clocks."""
        self._zero_s = start_ns / 1e9 if self._clock == "monotonic" else start_wall_s
        self._file.anchor(self._zero_s)

    def facts(self) -> dict[str, Any]:
        """Write what is left, and return what was sampled, for the run's JSON."""
        self._file.write()
        if self._file.problem is not None:
            self.problem(Problem("not_written", self._file.problem))
        now_s = time.perf_counter() if self._clock == "monotonic" else time.time()
        zero_s = self._zero_s or 0.0
        with self._lock:
            gaps = self._gaps.until(now_s)
            return {
                "source": self._source,
                "file": f"{self._file.path.parent.name}/{self._file.path.name}",
                "rows": self._file.written,
                "hz": self._hz,
                "gpus": [dataclasses.asdict(gpu) for gpu in self._gpus.values()],
                "problems": [dataclasses.asdict(problem) for problem in self.problems],
                "gaps": [{"gpu_index": gap.key, **gap.facts(zero_s)} for gap in gaps],
            }
