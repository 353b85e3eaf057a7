"""Finds runs among files, chooses among them, and loads them: their rows and their JSON."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .by_class import as_sent
from .request_record import COLUMNS, RecordsError, known_columns, read_rows
from .row import Rows
from .run_info import RunInfo, read_head, read_what_is_right
from .safe_file import opened
from .text import file_name, printable

# Files that summarize.py writes; a shell's `results/*.csv` includes them.
OWN_FILES = ("summary.csv", "summary_levels.csv", "summary.json")
NEEDED = ("run_id", "scenario", "t_scheduled_s", "t_end_s", "max_tokens", "token_events")
FOLDERS = ("tokens", "telemetry", "server_metrics", "plans", "answers")  # of a run's other files
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
    return Run(path, frame, info, problems, run_id, scenario)


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
    return as_sent(info), [problem] if problem else []


# ---- which of the runs that lie there are meant ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked for.

    Runs that are named are meant, each of them. Of those that lie in a folder it is, of each
    scenario, label and level of load, the repeats of the newest session that has it.
    """

    names: Sequence[str] = ()  # files, globs, run ids, folders; none: the results folder
    last: bool = False  # only the newest session
    label: str | None = None  # only runs with this label; empty: those without one
    every: bool = False  # all that lie there


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runs that are meant."""

    paths: list[Path]  # of their rows
    problems: list[str]  # a line for each that wasn't found
    left_out: list[Path]  # what else lies there: older runs
    name: str | None  # what files on them are called; None: they stand for their whole folder


Heads = dict[Path, RunInfo | None]  # by a run's rows; None: it can't be told what it was


def choose(asked: Asked, results_dir: Path) -> Chosen:
    """Find the runs that are meant."""
    folders = [name for name in asked.names if Path(name).is_dir()]
    names = [name for name in asked.names if name not in folders]
    named = find_runs(names, results_dir) if names else Found()
    lying = find_runs(folders, results_dir) if folders or not names else Found()
    found = {place: path for of in (named, lying) for place, path in of.by_place.items()}
    problems = [*named.problems, *lying.problems]
    heads = {path: head_of(path) for path in found.values()}
    if asked.label is not None:
        heads, problems = _labelled(heads, asked.label, problems)
    meant, left_out = list(heads), list[Path]()
    if asked.last:
        meant = last_session(heads)
    elif not asked.every:
        of_folders = {path: heads[path] for path in lying.paths if path in heads}
        stay = {*newest_sessions(of_folders), *named.paths}
        left_out = [path for path in of_folders if path not in stay]
        meant = [path for path in heads if path in stay]
    return Chosen(meant, problems, left_out, _name_of(meant, bool(names), asked.label))


def head_of(rows: Path) -> RunInfo | None:
    """Return which run rows are of, by its JSON; None where that can't be told."""
    try:
        return read_head(rows.with_suffix(".json"))
    except RecordsError:  # to load it will say what is wrong
        return None


def label_of(info: RunInfo | None) -> str:
    """Return a run's label; empty: it has none, or that isn't known."""
    return (info.scenario.get("label") or "") if info else ""


def _labelled(heads: Heads, label: str, problems: list[str]) -> tuple[Heads, list[str]]:
    """Return the runs with this label, and the problems, with a line for each whose is unknown."""
    no_json = "it can't be told which label it has: left out"
    problems = [*problems, *(f"{path}: {no_json}" for path, info in heads.items() if info is None)]
    kept: Heads = {path: i for path, i in heads.items() if i and label_of(i) == label}
    if kept or not heads:
        return kept, problems
    there = sorted({label_of(info) for info in heads.values()} - {""})
    said = f"there are {', '.join(map(printable, there))}" if there else "none has any"
    none = (
        f"--label {printable(label)}: no run has this label"
        if label
        else "--label '': each has one"
    )
    return kept, [*problems, f"{none}; {said}"]


def _name_of(paths: Sequence[Path], named: bool, label: str | None) -> str | None:
    if named and paths:
        more = f"+{len(paths) - 1}" if len(paths) > 1 else ""
        return f"{paths[0].stem}{more}"
    return None if label is None else file_name(label)


def newest_sessions(heads: Heads) -> list[Path]:
    """Return, of each scenario, label and level of load, the runs of its newest session.

    A run that doesn't say of which session it is stands alone; one of which nothing is known is
    newest, so that it is seen.
    """
    groups: dict[tuple[object, ...], Heads] = {}
    for path, info in heads.items():
        key = (path,) if info is None else (path.parent, *_level(info))
        groups.setdefault(key, {})[path] = info
    return [path for group in groups.values() for path in last_session(group)]


def last_session(heads: Heads) -> list[Path]:
    """Return the runs of the newest session of all, in their order.

    With them those of which nothing is known, unless they were written before it began.
    """
    known = {path: info for path, info in heads.items() if info is not None}
    if not known:
        return list(heads)
    newest = max(known, key=lambda path: (known[path].clock_start.wall_s, path.name))
    session = session_of(known[newest])
    of_it = {p: i for p, i in known.items() if session is not None and session_of(i) == session}
    of_it = of_it or {newest: known[newest]}
    began_s = min(info.clock_start.wall_s for info in of_it.values())
    unknown = [p for p, info in heads.items() if info is None and _written_s(p) >= began_s]
    return [p for p, info in of_it.items() if not made_again(info, of_it.values())] + unknown


def session_of(info: RunInfo) -> str | None:
    """Return the session of a run: one for all visits of an experiment; None: it isn't known."""
    return info.experiment.get("id") or info.session


def _written_s(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _level(info: RunInfo) -> tuple[object, ...]:
    load = (info.concurrency, info.request_rate, info.plan.get("speed"))
    return (info.scenario.get("name"), label_of(info), *load)


def made_again(run: RunInfo, session: Iterable[RunInfo]) -> bool:
    """Whether a run was made again in its session: by --resume, since it or its visit broke off."""
    if run.experiment.get("made_again"):
        return True
    return run.status != "complete" and any(
        other.status == "complete" and _place(other) == _place(run) for other in session
    )


def _place(run: RunInfo) -> tuple[object, ...]:
    """Return which run of its session it was meant to be."""
    return (*_level(run), run.experiment.get("visit"), run.repeat)
