"""What is left of runs on disk, and what the server recorded: read without the tool's own code."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .loads import NAME

SUMMARY = "summary.csv"
NEEDED = {
    *("run_id", "request_index", "request_id", "t_end_s", "error_kind"),
    *("prompt_tokens", "completion_tokens"),
}


@dataclass(slots=True)
class Row:
    """One request, as a run's rows tell it."""

    request_id: str
    index: int
    end_s: float  # from the run's start
    error_kind: str  # empty: a success
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(slots=True)
class LeftRun:
    """One run on disk."""

    run_id: str
    rows: list[Row] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # lines that aren't rows
    torn: bool = False  # its last line lacks its end
    info: dict[str, Any] | None = None  # its JSON
    locked: bool = False  # some process still writes it

    @property
    def status(self) -> str:
        """How it ended, by its JSON."""
        return str((self.info or {}).get("status", "no JSON"))

    @property
    def level(self) -> tuple[Any, Any]:
        """Its level of load."""
        info = self.info or {}
        return info.get("concurrency"), info.get("request_rate")

    def ended_ns(self, row: Row) -> int:
        """When a request ended, by the monotonic clock."""
        start = (self.info or {}).get("clock_start") or {}
        return int(start.get("monotonic_ns", 0)) + int(row.end_s * 1e9)


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the server recorded it."""

    request_id: str
    run_id: str
    index: int
    received_ns: int
    ended_ns: int
    sent_tokens: int
    finished: bool  # it has a finish reason
    outcome: str


def runs_in(folder: Path) -> list[LeftRun]:
    """Read all runs of a folder, in the order of their start, and nothing else there."""
    found = {path.stem for kind in ("csv", "json") for path in folder.glob(f"{NAME}-*.{kind}")}
    # A run's id ends with its time.
    return [_run(folder, name) for name in sorted(found, key=lambda name: name.rpartition("-")[2])]


def _run(folder: Path, name: str) -> LeftRun:
    run = LeftRun(name, info=_info(folder / f"{name}.json"))
    path = folder / f"{name}.csv"
    if path.is_file():
        read_into(run, path.read_bytes())
        run.locked = _is_locked(path)
    return run


def read_into(run: LeftRun, whole: bytes) -> None:
    """Read the lines of a run's file; what isn't a row is damage."""
    lines, _, rest = whole.rpartition(b"\n")
    run.torn = bool(rest)
    reader = csv.DictReader(io.StringIO(lines.decode(errors="replace"), newline=""))
    if lines and NEEDED - set(reader.fieldnames or ()):
        run.damaged.append("its header")
        return
    for number, cells in enumerate(reader, start=2):
        try:
            run.rows.append(_row(run.run_id, cells))
        except (ValueError, TypeError) as e:
            run.damaged.append(f"row {number}: {e}")


def _row(run_id: str, cells: dict[str, Any]) -> Row:
    if None in cells or None in cells.values():
        raise ValueError("another number of cells than its header")
    if cells["run_id"] != run_id:
        raise ValueError(f"of another run, {cells['run_id']}")
    counts = [cells["prompt_tokens"], cells["completion_tokens"]]
    return Row(
        cells["request_id"],
        int(cells["request_index"]),
        float(cells["t_end_s"]),
        cells["error_kind"],
        *(int(tokens) if tokens else None for tokens in counts),
    )


def verdicts_in(folder: Path) -> dict[str, str]:
    """Return the verdict on each run that summarize.py has summed up."""
    path = folder / SUMMARY
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as table:
        return {line["run_id"]: line["verdict"] for line in csv.DictReader(table)}


def _info(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        read = json.loads(path.read_bytes())
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def served_in(paths: Sequence[Path]) -> list[Served]:
    """Read the server's records; a last line that a kill cut off is left out."""
    wholes = (path.read_bytes() for path in paths if path.exists())
    lines = (line for whole in wholes for line in whole.split(b"\n")[:-1])
    return list(_served(lines))


def _served(lines: Iterable[bytes]) -> Iterable[Served]:
    for line in lines:
        told = json.loads(line)
        run_id, _, index = str(told["request_id"]).rpartition("-")
        if not index.isdecimal():
            continue  # not of a run
        yield Served(
            told["request_id"],
            run_id,
            int(index),
            told["t_received_ns"],
            told["t_end_ns"],
            sum(told["tokens"]),
            told["finish_reason"] is not None,
            told["outcome"],
        )
