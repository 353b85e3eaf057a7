"""Runs whose process was killed: told by their files, and marked as what they are.

A run that ends writes so into its JSON, whatever ended it. A killed one can't: its JSON says
`running` for ever, and nobody holds its rows.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from ..records.held import alone
from ..records.request_record import RecordsError
from ..records.run_info import RunInfo, read_run_info, write_run_info

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
