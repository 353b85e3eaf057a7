"""Rows that a sampler takes, and the file that they go to, on the clock of the run.

A row is a frozen dataclass whose first field is `t_s`; its fields are the columns, each with
its meaning. Samplers start before the run does, so rows are held until its start is known.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import threading
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any


def doc(text: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field that knows what its column means."""
    return field(default=default, metadata={"doc": text})


def columns(kind: type[Any]) -> tuple[str, ...]:
    """Return the columns of a kind of row."""
    return tuple(f.name for f in dataclasses.fields(kind))


def column_docs(kind: type[Any]) -> list[tuple[str, str]]:
    """Return (column, meaning) of a kind of row, in the file's order."""
    return [(f.name, f.metadata["doc"]) for f in dataclasses.fields(kind)]


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows of values as CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_cell(v) for v in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


class RowFile:
    """A CSV of rows on the run's clock. Safe to use from several threads; it never raises.

    A disk that is full ends the file, not the run: `problem` says why.
    """

    def __init__(self, path: Path, kind: type[Any]) -> None:
        """Prepare to write `path`, which appears once the run's start is known."""
        self.path = path
        self.written = 0
        self.problem: str | None = None
        self._columns = columns(kind)
        self._zero_s: float | None = None
        self._held: list[Any] = []
        self._begun = False
        self._lock = threading.Lock()

    def anchor(self, zero_s: float) -> None:
        """Say when the run starts, on the clock of the rows' `t_s`."""
        with self._lock:
            self._zero_s = zero_s  # the rows so far go with the next: this is no time for the disk

    def write(self, rows: Iterable[Any] = ()) -> None:
        """Append rows, and those that were held for the start."""
        with self._lock:
            self._held.extend(rows)
            if self._zero_s is None or self.problem is not None:
                return
            held, self._held = self._held, []
            try:
                self._append(held, self._zero_s)
            except OSError as e:
                self.problem = f"{self.path} ends early: {e.strerror or e}"

    def _append(self, rows: list[Any], zero_s: float) -> None:
        lines = csv_lines(
            (row.t_s - zero_s, *(getattr(row, name) for name in self._columns[1:])) for row in rows
        )
        if not self._begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(",".join(self._columns) + "\n", encoding="utf-8")
            self._begun = True
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(lines)
        self.written += len(rows)
