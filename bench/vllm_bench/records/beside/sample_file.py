"""The files of samples, `telemetry/<run_id>.csv` and `server_metrics/<run_id>.csv`: both ends.

Samplers start before the run does, so rows are kept in memory until its start is known.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..request_record import MOST_S, RecordsError
from ..row import Rows, bad_row, column_types, columns, complete_lines, csv_lines, rows_of
from ..run_info import RunInfo
from ..safe_file import new_file, read_regular
from .said_file import HEADER, Said, said_of
from .samples import GpuRow, ServerRow
from .server_view import server_rows

T = TypeVar("T")

# A day of eight GPUs, ten times a second, has 0.9 GB; a day of all that one engine says 1 GB.
MOST_BYTES = 2**30


class RowFile:
    """A CSV of rows on the run's clock. Safe to use from several threads; it never raises.

    A full disk ends the file, not the run, and so does a size that couldn't be read back:
    `problem` says why.
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
        self._bytes = 0
        self._lock = threading.Lock()

    def anchor(self, zero_s: float) -> None:
        """Set when the run starts, on the clock of the rows' `t_s`."""
        with self._lock:
            # The rows so far are written with the next: no disk access at the start.
            self._zero_s = zero_s

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
            os.close(new_file(self.path))
            self._begun = True
            lines = ",".join(self._columns) + "\n" + lines
        data = lines.encode(errors="backslashreplace")
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise OSError(errno.EFBIG, f"a file may have {MOST_BYTES / 1e9:.1f} GB")
        # Somebody may have put a link in the file's place: what it leads to stays as it is.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)
        self.written += len(rows)


ZERO_APART_S = 1.0  # between a file's start and its run's: another run lies further away


def read_gpu_rows(run: Path, info: RunInfo | None = None) -> Rows | None:
    """Read `telemetry/<run_id>.csv`, by rising t_s; None where nothing was sampled.

    Raises RecordsError: damaged, or, as far as the run's JSON tells, another run's.
    """
    path, what = run.parent / "telemetry" / f"{run.stem}.csv", "GPU samples"
    if (text := _text(path, what)) is None:
        return None
    return _own(path, _parsed(path, text, what, GpuRow), info, "gpu")


def read_server(run: Path, info: RunInfo | None = None) -> tuple[Rows | None, Said | None]:
    """Read `server_metrics/<run_id>.csv` as rows of `ServerRow`, and all that it says.

    As `read_gpu_rows` reads its file. Files of before have no more than the rows.
    """
    path = run.parent / "server_metrics" / f"{run.stem}.csv"
    what, sampler = "server metrics", "server_metrics"
    if (text := _text(path, what)) is None:
        return None, None
    if not text.startswith(HEADER + b"\n"):
        return _own(path, _parsed(path, text, what, ServerRow), info, sampler), None
    said = _known(path, what, partial(said_of, text))
    rows = _known(path, what, partial(server_rows, said))
    return _own(path, rows, info, sampler, said.rows), said


def _own(
    path: Path, rows: Rows, info: RunInfo | None, sampler: str, read: int | None = None
) -> Rows:
    """Return the rows if they are a run's own; `read` is how many the file has, if not these."""
    if info is None:
        return rows
    noted = info.observed.get(sampler) or {}
    problem = whose(rows, info.clock_start.wall_s, noted.get("rows"), read)
    if problem:
        raise RecordsError(f"{path}: {problem}")
    return rows


def whose(
    rows: Rows, start_wall_s: float, written: int | None, read: int | None = None
) -> str | None:
    """Return why samples aren't all of a run's own; None: they are.

    Each row tells when the run began, as the difference of its two clocks. `written` is how many
    there were, if that is known.
    """
    import numpy as np

    zeros_s = rows["wall_s"] - rows["t_s"]  # a clock that was set in mid-run moves some of them
    if len(rows) and np.abs(zeros_s - start_wall_s).min() > ZERO_APART_S:
        return "of another run"
    read = len(rows) if read is None else read
    if written is not None and read < written:
        return f"{read} rows of the {written} that were written"
    return None


def _text(path: Path, what: str) -> bytes | None:
    if not os.path.lexists(path):
        return None
    return _known(path, what, partial(read_regular, path, MOST_BYTES))


def _known(path: Path, what: str, read: Callable[[], T]) -> T:
    """Return what is read. Raises RecordsError."""
    try:
        return read()
    except OSError as e:
        raise RecordsError(f"{path}: not {what}: {e.strerror}") from e
    except (ValueError, OverflowError) as e:
        raise RecordsError(f"{path}: not {what}: {e}") from e


def _parsed(path: Path, text: bytes, what: str, kind: type[Any]) -> Rows:
    """Return rows of this kind. A last line that a kill cut off is left out, and unknown columns.

    Raises RecordsError where the header lacks a column, or a row is damaged.
    """
    return _known(path, what, partial(_rows, text, kind))


def _rows(text: bytes, kind: type[Any]) -> Rows:
    """Return the rows of a file. Raises ValueError, OverflowError."""
    import numpy as np

    whole = complete_lines(text)
    problem = bad_row(whole)
    if problem:
        raise ValueError(problem)
    rows = rows_of(whole, column_types(kind))
    if not (np.abs(rows["t_s"]) <= MOST_S).all():
        raise ValueError(f"a row has no t_s, or one beyond {MOST_S:g} s")
    return rows.of(np.argsort(rows["t_s"], kind="stable"))
