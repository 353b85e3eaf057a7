"""The files of a run: where they lie, whether some process still writes them, how they go.

A run is all of its files, under one name. `orphans` are files under the name of a run that isn't
there: they go with nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import lexists
from pathlib import Path

from .request_record import RecordsError
from .run_info import read_head
from .safe_file import unlocked

# Folders, and what a name in them has after the run id. Those that bench.py writes:
WRITTEN = (
    ("tokens", ".part"),
    ("tokens", ".npz"),
    ("telemetry", ".csv"),
    ("server_metrics", ".csv"),
    ("plans", ".csv"),
    ("answers", ".csv"),
    ("answers", ".jsonl"),
)
PICTURES = (
    *("ttft_cdf", "ttfa_cdf", "latency_cdf", "itl_cdf", "chunk_gap_cdf"),
    *("timeline", "waterfall", "ttft_classes", "ttfa_classes", "latency_classes"),
)
FORMATS = (".png", ".svg", ".pdf")
# And those that others make of a run.
MADE = (
    ("calibration", ".json"),
    ("cache", ".json"),
    ("vllm", ".json"),
    *(("summaries", end) for end in (".csv", "_levels.csv", ".md", ".json")),
    ("reports", ".html"),
    *(("plots", f"_{name}{end}") for name in PICTURES for end in FORMATS),
)
# As bench.py names runs: whatever else lies in these folders is somebody's own.
RUN_ID = re.compile(r"[A-Za-z0-9].*-\d{8}T\d{6}Z")
HALF = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")  # what a kill has left of a file: see safe_file
# A run creates its rows right after its JSON: after this time it never will.
YOUNG_S = 600.0


def written_files(folder: Path, run_id: str) -> list[Path]:
    """Return the files that bench.py has written of a run, its rows first and its JSON last."""
    names = [f"{run_id}.csv", *(f"{place}/{run_id}{end}" for place, end in WRITTEN)]
    return [path for name in (*names, f"{run_id}.json") if lexists(path := folder / name)]


def files_of(folder: Path, run_id: str) -> list[Path]:
    """Return all files of a run, rows and JSON last: what is broken off can be done again."""
    names = [f"{place}/{run_id}{end}" for place, end in (*WRITTEN, *MADE)]
    own = (f"{run_id}.csv", f"{run_id}.json")
    return [path for name in (*names, *own) if _is_file(path := folder / name)]


def orphans(folder: Path) -> dict[str, list[Path]]:
    """Return the files of runs that aren't there, by the id of the run."""
    found: dict[str, list[Path]] = {}
    for run_id, path in _named_for_runs(folder):
        if not _is_file(path):
            continue
        half = path.name.startswith(".") and time.time() - _changed_s(path) > YOUNG_S
        if half or not is_run(folder, run_id):
            found.setdefault(run_id, []).append(path)
    return dict(sorted(found.items()))


def _is_file(path: Path) -> bool:
    """Return whether something is there, and no folder; a link is as good as a file."""
    return lexists(path) and (path.is_symlink() or not path.is_dir())


def is_run(folder: Path, run_id: str) -> bool:
    """Return whether a run has rows or a JSON."""
    return any(lexists(folder / f"{run_id}{end}") for end in (".csv", ".json"))


def _named_for_runs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that are named as files of runs are, each with the run's id."""
    for place in dict.fromkeys(["", *(place for place, _ in (*WRITTEN, *MADE))]):
        ends = [end for one, end in (*WRITTEN, *MADE) if one == place]
        for path in _listed(folder / place):
            half = HALF.fullmatch(path.name)
            name = half[1] if half else path.name
            for end in [*ends, *((".csv", ".json") if half else ())]:
                run_id = name.removesuffix(end)
                if run_id != name and RUN_ID.fullmatch(run_id):
                    yield run_id, path
                    break


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # there is none
        return []


@contextmanager
def ended(folder: Path, run_id: str, files: Sequence[Path]) -> Iterator[bool]:
    """Yield whether no process writes these files of a run, and keep it so inside the block.

    False also where that can't be told.
    """
    rows = folder / f"{run_id}.csv"
    if _says_how_it_ended(rows.with_suffix(".json")):
        yield True
    elif rows in files and _size(rows):  # its header is written right after it is locked
        with unlocked(rows) as free:
            yield free
    else:
        written = set(files) & set(written_files(folder, run_id))
        yield all(time.time() - _changed_s(path) > YOUNG_S for path in written)


def remove(folder: Path, run_id: str, files: Sequence[Path]) -> bool:
    """Remove files of a run, unless it goes on; return whether they are gone. Raises OSError."""
    with ended(folder, run_id, files) as has_ended:
        if not has_ended:
            return False
        for path in files:
            path.unlink(missing_ok=True)
    for place in {path.parent for path in files} - {folder}:
        with suppress(OSError):  # other runs have files in it
            place.rmdir()
    return True


def _says_how_it_ended(info: Path) -> bool:
    try:
        return read_head(info).status != "running"
    except RecordsError:
        return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _changed_s(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # gone
        return 0.0
