"""Finds runs among files, and loads them: their rows and their JSON."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .request_record import COLUMNS, RecordsError, known_columns, read_rows
from .row import Rows
from .run_info import RunInfo, read_what_is_right
from .safe_file import opened
from .text import printable

# Files that summarize.py writes; a shell's `results/*.csv` includes them.
OWN_FILES = ("summary.csv", "summary_levels.csv", "summary.json")
NEEDED = ("run_id", "scenario", "t_scheduled_s", "t_end_s", "max_tokens", "token_events")
FOLDERS = ("tokens", "telemetry", "server_metrics", "plans")  # of a run's other files
ANY_SIZE = 2**62  # a file is looked into; reading it has a bound
MOST_TOLD = 3  # cells that were left out


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it is on disk."""

    path: Path
    frame: Rows
    info: RunInfo | None
    problems: list[str]  # what of its files was left out, and why: a line for each
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
        place = Path(os.path.realpath(path))  # of a link that leads to itself, too
        self.by_place.setdefault(place, path)


def find_runs(given: Sequence[str], results_dir: Path) -> Found:
    """Find the runs that `given` names: files, globs, folders, run ids. Empty: all runs.

    If there are none, the problems say so.
    """
    found = Found()
    for item in given or [str(results_dir)]:
        path = Path(item)
        if path.is_dir():
            nothing = f"no runs in {item}: make some with make bench"
            _add_runs(found, sorted([*path.glob("*.csv"), *path.glob("*.json")]), nothing)
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
    matching = here if any(map(_looks_like_run, here)) else there
    _add_runs(found, matching, f"{item}: no run matches, here or in {results_dir}")


def _add_runs(found: Found, candidates: Iterable[Path], nothing: str) -> None:
    """Add those candidates that are runs; if none is, `nothing` is the problem."""
    runs = [_rows_path(p) for p in candidates if _looks_like_run(p)]
    for path in runs:
        found.add(path)
    if not runs:
        found.problems.append(nothing)


def _add_named(found: Found, item: str, results_dir: Path, *, alone: bool) -> None:
    path = _rows_path(Path(item))
    if os.path.lexists(path) or os.path.lexists(item):
        if path.name not in OWN_FILES:
            found.add(path)
        elif alone:
            found.problems.append(f"{item}: not a run: summarize.py wrote it")
        return
    for candidate in (path.with_name(path.name + ".csv"), results_dir / f"{item}.csv"):
        if os.path.lexists(candidate) or _is_info(candidate.with_suffix(".json")):
            found.add(candidate)
            return
    where = results_dir if results_dir.is_dir() else f"{results_dir}, which is missing"
    found.problems.append(f"{item}: no such run: neither a file nor a run id in {where}")


def _rows_path(path: Path) -> Path:
    return path.with_suffix(".csv") if path.suffix == ".json" else path


def _looks_like_run(path: Path) -> bool:
    """Whether a file is a run's rows, damaged or not, or the JSON of a run.

    Rows have most of our columns, or a run's JSON beside them. What can't be looked into is taken
    for a run: to load it will say why it isn't one.
    """
    if path.name in OWN_FILES:
        return False
    if path.suffix == ".json":
        return _is_info(path)
    if path.suffix != ".csv":
        return False
    head = _head(path)
    known = head is None or known_columns(head.split("\n")[0]) >= len(COLUMNS) / 2
    return known or _is_info(path.with_suffix(".json"))


def _is_info(path: Path) -> bool:
    """Whether a file is the JSON of a run, or can't be looked into."""
    if not os.path.lexists(path):
        return False
    head = _head(path)
    return head is None or all(f'"{key}"' in head for key in ("run_id", "status", "scenario"))


def _head(path: Path) -> str | None:
    """Return how a file begins; None where it can't be read."""
    try:
        with opened(path, ANY_SIZE) as file:
            return file.read(65536).decode(errors="replace")
    except OSError:
        return None


def load_run(path: Path) -> Run:
    """Load a run. Raises RecordsError: rows missing, damaged, or of several runs.

    What of the run's other files can't be believed is left out, and told in its `problems`.
    """
    frame = _rows(path)
    _refuse_damage(path, frame)
    info, problems = _load_info(path.with_suffix(".json"))
    problems = [*(f"{path}: {wrong}" for wrong in frame.wrong[:MOST_TOLD]), *problems]
    run_id, scenario = _identity(path, frame, info)
    if info is not None:
        problems += _missing(path, info)
    return Run(path, frame, info, problems, run_id, scenario, _streams(frame, info))


def _rows(path: Path) -> Rows:
    """Read the rows. Raises RecordsError, also where a run's JSON alone is left."""
    info = path.with_suffix(".json")
    if not os.path.lexists(path) and os.path.lexists(info):
        raise RecordsError(f"{path}: missing: {info.name} is there, the rows of its run aren't")
    return read_rows(path)


def _missing(path: Path, info: RunInfo) -> list[str]:
    """Return what isn't beside the rows of all that the JSON names."""
    sampled = [noted for noted in info.observed.values() if isinstance(noted, dict)]
    noted = [one["file"] for one in sampled if one.get("rows") and one.get("file")]
    named = (Path(name) for name in dict.fromkeys([*info.files, *noted]))
    # By the rows' own name: a path in a JSON mustn't lead out of the results.
    own = [f"{n.parent}/{path.stem}{n.suffix}" for n in named if str(n.parent) in FOLDERS]
    gone = [name for name in own if not os.path.lexists(path.parent / name)]
    return [f"{path}: {', '.join(gone)} isn't beside it: a run is all of its files"] if gone else []


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
    if ids and ids != {path.stem}:
        raise RecordsError(f"{path}: {_other(ids.pop())}")


def _other(run_id: object) -> str:
    return f"of another run: its run_id is {printable(run_id, 100)}, and so must its name be"


def _load_info(path: Path) -> tuple[RunInfo | None, list[str]]:
    """Return a run's info, None where it can't be believed, and what is wrong with its file."""
    try:
        info, problem = read_what_is_right(path)
    except RecordsError as e:
        return None, [str(e)]
    if info.run_id != path.stem:
        return None, [f"{path}: {_other(info.run_id)}"]
    return info, [problem] if problem else []
