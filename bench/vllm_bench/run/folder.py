"""Whether the results folder will take a run, found out before the first request."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BenchError
from ..records.request_record import RecordsError
from ..records.run_info import RunInfo, read_run_info, write_run_info
from ..records.whole_file import alone

ROW_BYTES = 500  # a row of a healthy run has about 350
SPARE_BYTES = 20_000_000  # for telemetry, pictures and the file system's own needs


class FolderError(BenchError):
    """A folder that can't hold the results; the text is one line for people."""


def check_folder(folder: Path, rows: int) -> None:
    """Make the folder if need be and prove that it takes `rows` rows. Raises FolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # permissions can lie: write for real
            probe.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise FolderError(f"{folder}: can't be written: {e.strerror}: name another folder") from e
    needed = rows * ROW_BYTES + SPARE_BYTES
    if free < needed:
        raise FolderError(
            f"{folder}: {free // 1_000_000} MB free, {needed // 1_000_000} MB may be needed for "
            f"{rows:,} rows: make room or name another folder"
        )


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """Remove at the block's end what of the folder was made inside it and holds nothing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it isn't there, or it is in use
                path.rmdir()


# A run begins its rows at once after its JSON: one that hasn't after this long never will.
YOUNG_S = 600.0


def mark_left_behind(folder: Path) -> list[Path]:
    """Mark the killed runs of a folder as interrupted; return their JSON files.

    A run under way is left alone, and one of which nobody can tell. Raises OSError where a file
    can't be written.
    """
    return [path for path in sorted(folder.glob("*.json")) if _mark(path)]


def _mark(path: Path) -> bool:
    if _running(path) is None:
        return False
    rows = path.with_suffix(".csv")
    if not _began(rows):
        return _is_old(path) and _interrupt(path)
    with alone(rows) as nobody_writes:
        # Read again inside: it may have ended between the first look and this one.
        return nobody_writes and _interrupt(path)


def _running(path: Path) -> RunInfo | None:
    """Return what a run that has not ended was; None for any other file."""
    try:
        info = read_run_info(path)
    except RecordsError:
        return None
    return info if info.status == "running" else None


def _began(rows: Path) -> bool:
    """Whether the file has its header, which is written as soon as it is held."""
    try:
        return rows.stat().st_size > 0
    except OSError:
        return False


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > YOUNG_S


def _interrupt(path: Path) -> bool:
    info = _running(path)
    if info is None:
        return False
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    note = f"the process was killed; marked at {at}"
    write_run_info(path, dataclasses.replace(info, status="interrupted", notes=[*info.notes, note]))
    return True
