"""Checks before the first request that the results folder can be written, and marks killed runs."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BenchError
from ..records.request_record import RecordsError, count_rows
from ..records.run_files import WRITTEN, YOUNG_S, written_files
from ..records.run_info import RunInfo, read_run_info, write_run_info
from ..records.safe_file import unlocked

ROW_BYTES = 500  # a row of a normal run has about 350
SPARE_BYTES = 20_000_000  # for telemetry, pictures and the file system's own needs


class FolderError(BenchError):
    """A folder that can't take the results; the text is one line for people."""


def check_folder(folder: Path, rows: int) -> None:
    """Make the folder if necessary and check that it can take `rows` rows. Raises FolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")  # really: permission bits may mislead
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
    """At the block's end, remove empty folders that were made inside it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it is missing, or in use
                path.rmdir()


def remove_empty(path: Path) -> None:
    """Remove a file that nothing was written to."""
    with suppress(OSError):  # it is gone
        if path.stat().st_size == 0:
            path.unlink()


def remove_run(folder: Path, run_id: str) -> None:
    """Remove what a run has written that was broken off before its first request."""
    for path in written_files(folder, run_id):
        with suppress(OSError):
            path.unlink()
    for place in {place for place, _ in WRITTEN}:
        with suppress(OSError):  # it is missing, or other runs have files in it
            (folder / place).rmdir()


def mark_left_behind(folder: Path) -> list[Path]:
    """Mark the killed runs of a folder as interrupted; return their JSON files.

    A run that is still going on is left alone, and so is one whose state is unknown. Raises OSError
    where a file can't be written.
    """
    return [path for path in sorted(folder.glob("*.json")) if _mark(path)]


def _mark(path: Path) -> bool:
    if _running(path) is None:
        return False
    rows = path.with_suffix(".csv")
    if not _began(rows):
        return time.time() - path.stat().st_mtime > YOUNG_S and _interrupt(path)
    with unlocked(rows) as is_unlocked:
        # Read again under the lock: the run may have ended since the first read.
        return is_unlocked and _interrupt(path)


def _running(path: Path) -> RunInfo | None:
    """Return the info of a run that hasn't ended; None for any other file."""
    try:
        info = read_run_info(path)
    except RecordsError:
        return None
    return info if info.status == "running" else None


def _began(rows: Path) -> bool:
    """Whether the file has its header, which is written right after the file is locked."""
    try:
        return rows.stat().st_size > 0
    except OSError:
        return False


def _interrupt(path: Path) -> bool:
    info = _running(path)
    if info is None:
        return False
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    notes = [*info.notes, f"the process was killed, or could write no more; marked at {at}"]
    number = info.num_requests
    with suppress(RecordsError):  # by time: until now unknown
        number = max(info.num_requests, count_rows(path.with_suffix(".csv")))
    ended = dataclasses.replace(info, status="interrupted", num_requests=number, notes=notes)
    write_run_info(path, ended)
    return True
