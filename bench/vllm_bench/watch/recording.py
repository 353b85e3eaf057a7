"""Recording samples: the run's file, and notes on problems and gaps for the run's JSON."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import BenchError
from ..records.beside.sample_file import RowFile
from ..records.beside.samples import GpuRow
from ..records.text import printable

# Readings further apart are a gap: a few samples at the usual 10 Hz, and less than the 3 s above
# which there is no energy figure.
GPU_GAP_S = 1.0

MOST_NOTED = 100  # problems, and GPUs beyond any machine's; gaps ten times as many
MOST_TEXT = 500  # characters of a problem

Clock = Literal["monotonic", "wall"]


class UnavailableError(BenchError):
    """Nothing can be sampled; the text says why in one line, and the code in one word."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that people should know about the samples: a code and one line."""

    code: str
    text: str
    gpu_index: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without readings, from the last one to the next."""

    gpu_index: int | None  # None: the server
    from_s: float | None  # None: there was no earlier reading
    to_s: float | None  # None: it never came back
    code: str

    def facts(self, zero_s: float) -> dict[str, object]:
        """Return the gap on the clock of the run, for its JSON."""
        ends = {"from_s": self.from_s, "to_s": self.to_s}
        placed = {k: None if t_s is None else round(t_s - zero_s, 6) for k, t_s in ends.items()}
        return {"gpu_index": self.gpu_index, **placed, "code": self.code}


class GapLog:
    """Notes readings as they come, and finds the gaps between them."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s  # readings further apart are a gap, whatever the cause
        self._last: dict[int | None, float] = {}
        self._missing: dict[int | None, str] = {}  # why there is no reading at the moment
        self._gaps: list[Gap] = []

    def seen(self, gpu_index: int | None, t_s: float) -> None:
        code = self._missing.pop(gpu_index, None)
        last_s = self._last.get(gpu_index)
        far = code or (last_s is not None and t_s - last_s > self.limit_s)
        if far and len(self._gaps) < 10 * MOST_NOTED:
            self._gaps.append(Gap(gpu_index, last_s, t_s, code or "late"))
        self._last[gpu_index] = t_s

    def missed(self, gpu_index: int | None, code: str) -> None:
        """Note that there is no reading, and why; the first cause is kept."""
        self._missing.setdefault(gpu_index, code)

    def until(self, t_s: float) -> list[Gap]:
        """Return all gaps up to the end of the sampling, those still open included."""
        late = {i: "late" for i, last_s in self._last.items() if t_s - last_s > self.limit_s}
        still = {**late, **self._missing}
        return [*self._gaps, *(Gap(i, self._last.get(i), None, code) for i, code in still.items())]


class Recording:
    """One run's samples of one kind. Safe to use from several threads; nothing here raises."""

    def __init__(
        self, path: Path, kind: type[Any], gap_s: float, clock: Clock = "monotonic"
    ) -> None:
        """Prepare to write `path` with rows whose `t_s` is on this clock."""
        self._file = RowFile(path, kind)
        self._clock = clock
        self._zero_s = 0.0
        self._gaps = GapLog(gap_s)
        self.problems: list[Problem] = []
        self._lock = threading.Lock()

    def rows(self, rows: Sequence[Any]) -> None:
        with self._lock:
            for row in rows:
                self._gaps.seen(getattr(row, "gpu_index", None), row.t_s)
        self._file.write(rows)

    def missed(self, gpu_index: int | None, code: str) -> None:
        """Note that a GPU, or the server, has stopped answering."""
        with self._lock:
            self._gaps.missed(gpu_index, code)

    def problem(self, problem: Problem) -> None:
        with self._lock:
            told = dataclasses.replace(problem, text=printable(problem.text, MOST_TEXT))
            if told not in self.problems and len(self.problems) < MOST_NOTED:
                self.problems.append(told)

    def anchor(self, start_ns: int, start_wall_s: float) -> None:
        """Set when the run starts: one moment on both clocks."""
        self._zero_s = start_ns / 1e9 if self._clock == "monotonic" else start_wall_s
        self._file.anchor(self._zero_s)

    def facts(self) -> dict[str, Any]:
        """Write what is left, and return the entry for the run's JSON."""
        self._file.write()
        if self._file.problem is not None:
            self.problem(Problem("not_written", self._file.problem))
        now_s = time.perf_counter() if self._clock == "monotonic" else time.time()
        with self._lock:
            return {
                "file": f"{self._file.path.parent.name}/{self._file.path.name}",
                "rows": self._file.written,
                "problems": [dataclasses.asdict(problem) for problem in self.problems],
                "gaps": [gap.facts(self._zero_s) for gap in self._gaps.until(now_s)],
            }


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """A GPU, and the columns for which it has no sensor."""

    index: int
    uuid: str
    name: str | None
    absent: tuple[str, ...] = ()


class GpuSink(Protocol):
    """Takes what a sampler of GPUs finds."""

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        """Take the GPUs that are read, and the samples per second."""

    def rows(self, rows: Sequence[GpuRow]) -> None:
        """Take readings; `t_s` is on the sampler's clock."""

    def missed(self, gpu_index: int, code: str) -> None:
        """Take note that a GPU has stopped answering."""

    def problem(self, problem: Problem) -> None:
        """Take a problem."""


class GpuRecording(Recording):
    """One run's telemetry, and its GPUs."""

    def __init__(self, path: Path, source: str) -> None:
        # A command's rows come from another machine: only the wall clock is the same there.
        clock: Clock = "wall" if source == "command" else "monotonic"
        super().__init__(path, GpuRow, GPU_GAP_S, clock)
        self._source = source
        self._hz: float | None = None
        self._gpus: dict[tuple[int, str], GpuFacts] = {}

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        """Take the GPUs that are read; a newer entry for a GPU replaces the older one."""
        with self._lock:
            self._hz = hz
            self._gaps.limit_s = max(GPU_GAP_S, 3 / hz)
            self._gpus.update(((gpu.index, gpu.uuid), gpu) for gpu in found)

    def rows(self, rows: Sequence[GpuRow]) -> None:
        super().rows(rows)
        with self._lock:
            for row in rows:
                unknown = GpuFacts(row.gpu_index, row.gpu_uuid, None)
                self._gpus.setdefault((row.gpu_index, row.gpu_uuid), unknown)

    def facts(self) -> dict[str, Any]:
        with self._lock:  # a driver that hangs keeps its thread alive
            gpus = [dataclasses.asdict(gpu) for gpu in self._gpus.values()]
        return {"source": self._source, "hz": self._hz, "gpus": gpus, **super().facts()}
