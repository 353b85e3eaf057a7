"""GPU rows as a stream of lines, from the sampler on the server's machine to a run's file.

    t_s,wall_s,gpu_index,gpu_uuid,…                     the columns, first of all
    # {"gpus": [{"index": 0, "uuid": "GPU-…", …}], "hz": 10.0}
    0.100012,1763985600.100401,0,GPU-…                  a reading
    # {"missed": 1, "code": "gpu_lost"}                 GPU 1 has stopped answering
    # {"problem": "gpu_lost", "text": "…", "gpu_index": 1}
    # {}                                                still there, once a second

The two machines share no monotonic clock, so the reader places rows by their wall clock.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence

from ..records.gpu_row import COLUMNS, GpuRow, row_of_cells
from ..records.samples import csv_lines
from .gaps import Problem
from .gpu_recording import GpuFacts, GpuSink

HEADER = ",".join(COLUMNS)
ALIVE = "# {}\n"


class StreamError(Exception):
    """A line that isn't the sampler's; the text is one line for people."""


class StreamSink:
    """Writes what a sampler finds as lines."""

    def __init__(self, write: Callable[[str], None], zero_s: float) -> None:
        """Write lines through `write`; `t_s` counts from `zero_s` of the sampler's clock."""
        self._write = write
        self._zero_s = zero_s
        write(HEADER + "\n")

    def gpus(self, found: Sequence[GpuFacts], hz: float) -> None:
        """Say which GPUs are read, and how often."""
        self._note({"gpus": [dataclasses.asdict(gpu) for gpu in found], "hz": hz})

    def rows(self, rows: Sequence[GpuRow]) -> None:
        """Write readings."""
        placed = (dataclasses.replace(row, t_s=row.t_s - self._zero_s) for row in rows)
        self._write(csv_lines([getattr(row, c) for c in COLUMNS] for row in placed))

    def missed(self, gpu_index: int, code: str) -> None:
        """Say that a GPU has stopped answering."""
        self._note({"missed": gpu_index, "code": code})

    def problem(self, problem: Problem) -> None:
        """Say what is wrong."""
        self._note({"problem": problem.code, "text": problem.text, "gpu_index": problem.gpu_index})

    def _note(self, note: dict[str, object]) -> None:
        self._write(f"# {json.dumps(note)}\n")


def take_line(line: str, sink: GpuSink) -> GpuRow | None:
    """Pass one line of the stream on; a row is returned, too. Raises StreamError."""
    try:
        if line.startswith("#"):
            _take_note(json.loads(line[1:]), sink)
            return None
        (cells,) = csv.reader([line])
        row = row_of_cells(cells)
    except (ValueError, KeyError, TypeError, csv.Error) as e:
        raise StreamError(f"not a sampler's line: {line.strip()[:200]!r}") from e
    row = dataclasses.replace(row, t_s=row.wall_s)
    sink.rows([row])
    return row


def _take_note(note: dict[str, object], sink: GpuSink) -> None:
    if "gpus" in note:
        found = note["gpus"]
        if not isinstance(found, list):
            raise ValueError(found)
        gpus = [GpuFacts(**{**gpu, "absent": tuple(gpu["absent"])}) for gpu in found]
        sink.gpus(gpus, float(str(note["hz"])))
    elif "missed" in note:
        sink.missed(int(str(note["missed"])), str(note["code"]))
    elif "problem" in note:
        index = note["gpu_index"]
        gpu_index = None if index is None else int(str(index))
        sink.problem(Problem(str(note["problem"]), str(note["text"]), gpu_index))
