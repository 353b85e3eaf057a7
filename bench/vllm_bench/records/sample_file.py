"""The files of samples, `telemetry/<run_id>.csv` and `server_metrics/<run_id>.csv`: both ends.

Samplers start before the run does, so rows are kept in memory until its start is known.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .request_record import RecordsError
from .row import Rows, bad_row, column_types, columns, complete_lines, csv_lines, rows_of
from .samples import GpuRow, ServerRow


class RowFile:
    """A CSV of rows on the run's clock. Safe to use from several threads; it never raises.

    A full disk ends the file, not the run: `problem` says why.
    """

    def __init__(self, path: Path, kind: type[Any]) -> None:
        """Prepare to write `path`, which is created when the run's start is known."""
        self.path = path
        self.written = 0
        self.problem: str | None = None
        self._columns = columns(kind)
        self._zero_s: float | None = None
        self._held: list[Any] = []
        self._begun = False
        self._lock = threading.Lock()

    def anchor(self, zero_s: float) -> None:
        """Set when the run starts, on the clock of the rows' `t_s`."""
        with self._lock:
            self._zero_s = (
                zero_s  # the rows so far are written with the next: no disk access at the start
            )

    def write(self, rows: Iterable[Any] = ()) -> None:
        """Append rows, after those that waited for the start."""
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
        lines = csv_lines(dataclasses.replace(row, t_s=row.t_s - zero_s) for row in rows)
        if not self._begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(",".join(self._columns) + "\n", encoding="utf-8")
            self._begun = True
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(lines)
        self.written += len(rows)


def read_gpu_rows(run: Path) -> Rows | None:
    """Read `telemetry/<run_id>.csv`, by rising t_s; None where nothing was sampled.

    Raises RecordsError.
    """
    return _read(run.parent / "telemetry" / f"{run.stem}.csv", "GPU samples", GpuRow)


def read_server_rows(run: Path) -> Rows | None:
    """Read `server_metrics/<run_id>.csv`, by rising t_s; None where nothing was sampled.

    Raises RecordsError.
    """
    return _read(run.parent / "server_metrics" / f"{run.stem}.csv", "server metrics", ServerRow)


def _read(path: Path, what: str, kind: type[Any]) -> Rows | None:
    """Read rows of this kind. A last line that a kill cut off is left out, and unknown columns.

    Raises RecordsError where the header lacks a column, or a row is damaged.
    """
    if not path.exists():
        return None
    try:
        return _parsed(path.read_bytes(), kind)
    except (OSError, ValueError, OverflowError) as e:
        raise RecordsError(f"{path}: not {what}: {e}") from e


def _parsed(text: bytes, kind: type[Any]) -> Rows:
    """Return the rows of a file. Raises ValueError, OverflowError."""
    import numpy as np

    whole = complete_lines(text)
    problem = bad_row(whole)
    if problem:
        raise ValueError(problem)
    rows = rows_of(whole, column_types(kind))
    if not np.isfinite(rows["t_s"]).all():
        raise ValueError("a row has no t_s")
    return rows.of(np.argsort(rows["t_s"], kind="stable"))
