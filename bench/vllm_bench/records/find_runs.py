"""Finds runs among files, and loads them: their rows and their JSON."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .request_record import COLUMNS, RecordsError, read_rows
from .row import Rows
from .run_info import RunInfo, read_run_info

# Files that summarize.py writes; a shell's `results/*.csv` includes them.
OWN_FILES = ("summary.csv", "summary_levels.csv")
NEEDED = ("run_id", "scenario", "t_scheduled_s", "t_end_s", "max_tokens", "token_events")
MAPPINGS = (
    *("scenario", "seeds", "plan", "prompts"),
    *("server", "server_counters", "unmeasured", "client"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it is on disk."""

    path: Path
    frame: Rows
    info: RunInfo | None
    info_problem: str | None  # why info is None, if its file exists but can't be read
    run_id: str
    scenario: str
    concurrency: int | None  # None: an open loop


@dataclass(slots=True)
class Found:
    """The runs that were asked for, each once, and a problem for each that wasn't found."""

    by_place: dict[Path, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """The paths of the runs' rows, as they were named first."""
        return list(self.by_place.values())

    def add(self, path: Path) -> None:
        """Add a run, unless it is there already under any name."""
        self.by_place.setdefault(path.resolve(), path)


def find_runs(given: Sequence[str], results_dir: Path) -> Found:
    """Find the runs that `given` names: files, globs, folders, run ids. Empty: all runs.

    If there are none, the problems say so.
    """
    found = Found()
    for item in given or [str(results_dir)]:
        path = Path(item)
        if path.is_dir():
            nothing = f"no runs in {item}: make some with make bench"
            _add_runs(found, sorted(path.glob("*.csv")), nothing)
        elif not given:
            found.problems.append(f"{item}: no such folder: make bench makes runs")
        elif not path.exists() and glob.has_magic(item):
            _add_matching(found, item, results_dir)
        else:
            _add_named(found, item, results_dir, alone=len(given) == 1)
    return found


def _add_matching(found: Found, item: str, results_dir: Path) -> None:
    """Add the runs that a glob names: as a path, else in the results folder."""
    here = [Path(p) for p in sorted(glob.glob(item))]  # noqa: PTH207
    there = [results_dir / p for p in sorted(glob.glob(item, root_dir=results_dir))]  # noqa: PTH207
    matching = here if any(map(_looks_like_run, map(_rows_path, here))) else there
    _add_runs(found, matching, f"{item}: no run matches, here or in {results_dir}")


def _add_runs(found: Found, candidates: Iterable[Path], nothing: str) -> None:
    """Add those candidates that are runs; if none is, `nothing` is the problem."""
    runs = [p for p in map(_rows_path, candidates) if _looks_like_run(p)]
    for path in runs:
        found.add(path)
    if not runs:
        found.problems.append(nothing)


def _add_named(found: Found, item: str, results_dir: Path, *, alone: bool) -> None:
    path = _rows_path(Path(item))
    if path.is_file():
        if path.name not in OWN_FILES:
            found.add(path)
        elif alone:
            found.problems.append(f"{item}: not a run: summarize.py wrote it")
        return
    for candidate in (path.with_name(path.name + ".csv"), results_dir / f"{item}.csv"):
        if candidate.is_file():
            found.add(candidate)
            return
    where = results_dir if results_dir.is_dir() else f"{results_dir}, which is missing"
    found.problems.append(f"{item}: no such run: neither a file nor a run id in {where}")


def _rows_path(path: Path) -> Path:
    return path.with_suffix(".csv") if path.suffix == ".json" else path


def _looks_like_run(path: Path) -> bool:
    """Whether a file has a run's rows, damaged or not: most of its columns are ours."""
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open("rb") as rows:
        header = rows.readline(65536).decode(errors="replace").strip().split(",")
    known = len(set(header) & set(COLUMNS))
    # A kill before the header was written leaves an empty file next to the run's JSON.
    return known >= len(COLUMNS) / 2 or (header == [""] and path.with_suffix(".json").exists())


def load_run(path: Path) -> Run:
    """Load a run. Raises RecordsError: rows missing, damaged, or of several runs."""
    frame = read_rows(path)
    _refuse_damage(path, frame)
    info, problem = _load_info(path.with_suffix(".json"))
    run_id, scenario = _identity(path, frame, info)
    return Run(path, frame, info, problem, run_id, scenario, _streams(frame, info))


def _streams(rows: Rows, info: RunInfo | None) -> int | None:
    """Return how many streams a closed loop held; None: an open loop."""
    asked = [info.concurrency] if info else rows["concurrency"][rows.has("concurrency")].tolist()
    return int(asked[0]) if asked and asked[0] is not None else None


def _identity(path: Path, rows: Rows, info: RunInfo | None) -> tuple[str, str]:
    """Return run id and scenario: from the rows, or from the JSON if there are no rows."""
    if len(rows):
        return str(rows["run_id"][0]), str(rows["scenario"][0])
    if info is None:
        raise RecordsError(f"{path}: no rows, and no {path.stem}.json to say what it was")
    return info.run_id, str(info.scenario.get("name", info.run_id))


def _refuse_damage(path: Path, rows: Rows) -> None:
    empty = {column: ~rows.has(column) for column in ("concurrency", "request_rate", *NEEDED)}
    lacking = {"neither concurrency nor request_rate": empty["concurrency"] & empty["request_rate"]}
    lacking.update((f"no {column}", empty[column]) for column in NEEDED)
    for what, those in lacking.items():
        if those.any():
            line = int(those.argmax()) + 2  # the header is line 1
            raise RecordsError(f"{path}: damaged row: line {line} has {what}")
    ids = set(rows["run_id"])
    if len(ids) > 1:
        raise RecordsError(f"{path}: contains {len(ids)} runs: there must be one run per file")


def _load_info(path: Path) -> tuple[RunInfo | None, str | None]:
    """Return a run's info, or None and what is wrong with its file (None: no file)."""
    if not path.exists():
        return None, None
    try:
        info = read_run_info(path)
    except RecordsError as e:
        return None, str(e)
    wrong = [name for name in MAPPINGS if not isinstance(getattr(info, name), dict)]
    if wrong:
        return None, f"{path}: not a run's JSON: {wrong[0]} must be a mapping"
    return info, None
