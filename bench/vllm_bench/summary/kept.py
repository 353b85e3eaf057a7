"""Summaries that are kept: runs and levels whose files haven't changed aren't read again.

`cache/<run_id>.json` and `cache/levels.json` beside the rows; safe to delete at any time. An entry
counts for the same files (by size, times and number of each) and the same code alone. What it
gives is to the byte what reading the run again would give: numbers are written in full.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..figures.metrics import METRICS
from ..records.by_class import as_sent, info_of_class
from ..records.find_runs import Run, load_run
from ..records.request_record import RecordsError
from ..records.run_info import RunInfo, read_run_info
from ..records.safe_file import read_regular, write_atomically
from ..stats.distribution import Distribution, Sample
from .levels import Level
from .summary import RunSummary, facts_of, summarize

MOST_BYTES = 2**26
QUIET_NS = 2_000_000_000  # files younger than this may change again within one tick of their times
BESIDE = (
    *("tokens/{}.npz", "tokens/{}.part", "telemetry/{}.csv", "server_metrics/{}.csv"),
    *("calibration/{}.json", "answers/{}.csv"),
)
NO_ENTRY = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Kept:
    """The summaries that are kept beside runs."""

    def __init__(self) -> None:
        """Runs are asked for once each, before they are read."""
        self._now_ns = time.time_ns()
        self._keys: dict[Path, str] = {}  # of the runs that may be kept, by their rows

    def run(self, rows: Path) -> RunSummary | None:
        """Return a run's summary, if it is kept."""
        key = _key(rows, self._now_ns)
        if key is None:
            return None
        self._keys[_place(rows)] = key
        try:
            found = _entries(_place(rows))[key]
            made: RunSummary = _made(RunSummary, found)
            info = as_sent(read_run_info(rows.with_suffix(".json")))
        except (*NO_ENTRY, RecordsError):
            return None
        return _whole(made, rows, info)

    def summarized(self, run: Run) -> RunSummary:
        """Sum a run up that was read; keep that, unless something of its files is wrong."""
        summary = summarize(run)
        if not run.problems:
            self.keep(run.path, summary)
        return summary

    def keep(self, rows: Path, summary: RunSummary) -> None:
        """Keep the summary of a run that was read without a problem."""
        key = self._keys.get(_place(rows))
        if key is not None and summary.info is not None:
            _write(_place(rows), {key: _plain(_bare(summary))})

    def take_levels(self, levels: Iterable[Level]) -> None:
        """Give levels what is kept of their runs' rows together."""
        for place, key, level in self._levels(levels):
            try:
                found = _entries(place)[key]
                level.pooled.update(_made(POOLED, found))
            except NO_ENTRY:
                continue

    def keep_levels(self, levels: Iterable[Level]) -> None:
        """Keep what levels have of their runs' rows together; in place of all others."""
        entries: dict[Path, dict[str, Any]] = {}
        for place, key, level in self._levels(levels):
            entries.setdefault(place, {})[key] = _plain(level.pooled)
        for place, found in entries.items():
            _write(place, found)

    def _levels(self, levels: Iterable[Level]) -> Iterator[tuple[Path, str, Level]]:
        for level in levels:
            rows = [run.folder / f"{run.name}.csv" for run in level.figures_of]
            keys = [self._keys.get(_place(path)) for path in rows]
            if len(keys) > 1 and None not in keys:
                yield rows[0].parent / "cache" / "levels.json", _sha256(keys), level


def _bare(summary: RunSummary) -> RunSummary:
    """Return what is kept of a summary, and of those of its classes."""
    classes = {name: _bare(part) for name, part in summary.classes.items()}
    return dataclasses.replace(summary, **NOT_KEPT, classes=classes)


def _whole(made: RunSummary, rows: Path, info: RunInfo) -> RunSummary:
    """Return a summary with what isn't kept of it."""
    missing = info.num_requests - made.requests
    classes = {
        name: dataclasses.replace(
            part,
            info=info_of_class(info, name, part.requests, missing),
            folder=rows.parent.resolve(),
            samples=Samples(rows, name),
        )
        for name, part in made.classes.items()
    }
    folder = rows.parent.resolve()
    return dataclasses.replace(
        made, info=info, folder=folder, samples=Samples(rows), classes=classes
    )


class Samples(Mapping[str, Sample]):
    """The samples of a run whose summary is kept: read again where a level with others needs them.

    They take a thousand times the room of the rest.
    """

    def __init__(self, rows: Path, name: str | None = None) -> None:
        """Take the run's rows, and the class whose samples they are."""
        self._rows, self._name = rows, name

    @cached_property
    def _read(self) -> dict[str, Sample]:
        facts = facts_of(load_run(self._rows))
        facts = facts if self._name is None else facts.of_class(self._name)
        return {metric.name: metric.sample(facts) for metric in METRICS}

    def __getitem__(self, metric: str) -> Sample:
        return self._read[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


NOT_KEPT: dict[str, Any] = {"info": None, "samples": {}, "folder": Path()}
POOLED = dict[str, Distribution | None]


def _place(rows: Path) -> Path:
    return rows.parent.resolve() / "cache" / f"{rows.stem}.json"


def _key(rows: Path, now_ns: int) -> str | None:
    """Return what tells whether a run must be read again; None: it must be."""
    found: list[object] = [code_sha256()]
    beside = [rows.parent / name.format(rows.stem) for name in BESIDE]
    for path in (rows, rows.with_suffix(".json"), *beside):
        try:
            there = path.stat()
        except OSError:
            found.append(None)
            continue
        if now_ns - max(there.st_mtime_ns, there.st_ctime_ns) < QUIET_NS:
            return None
        found.append([there.st_size, there.st_mtime_ns, there.st_ctime_ns, there.st_ino])
    return _sha256(found)


@cache
def code_sha256() -> str:
    """Return what tells one version of this package, and of numpy, from another."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return _sha256([np.__version__, *(hashlib.sha256(f.read_bytes()).hexdigest() for f in files)])


def _sha256(found: object) -> str:
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


# ---- values as JSON, and back by their types ----


def _entries(place: Path) -> Mapping[str, Any]:
    found = json.loads(read_regular(place, MOST_BYTES))
    return found if isinstance(found, dict) else {}


def _write(place: Path, entries: Mapping[str, Any]) -> None:
    """Write entries, where their folder can be written; else the runs are read again."""
    try:
        place.parent.mkdir(exist_ok=True)
        write_atomically(place, json.dumps(entries).encode())
    except OSError:
        return


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a dataclass as a list of its fields, a mapping of pairs."""
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(part)] for key, part in value.items()]
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _made(kind: Any, found: Any) -> Any:
    """Return the value of this type. Raises ValueError, TypeError where it isn't one."""
    if dataclasses.is_dataclass(kind):
        types_of = _types(kind)  # type: ignore[arg-type]
        values = {n: _made(of, part) for (n, of), part in zip(types_of, found, strict=True)}
        return kind(**values)  # type: ignore[operator]
    if typing.get_origin(kind) is not None:
        return _made_of(typing.get_origin(kind), typing.get_args(kind), found)
    if kind in (str, bool, int, float):
        return _checked(found, type(found) is kind or (kind is float and type(found) is int))
    return kind(found)  # a path, an enum


def _made_of(origin: Any, parts: tuple[Any, ...], found: Any) -> Any:
    """Return the value of a type that has others in it."""
    if origin is tuple:
        return tuple(_made(parts[0], part) for part in found)
    if origin in (dict, Mapping):
        return {_made(parts[0], key): _made(parts[1], part) for key, part in found}
    if origin is typing.Literal:
        return _checked(found, found in parts)
    return None if found is None else _one_of(parts, found)


def _one_of(kinds: tuple[Any, ...], found: Any) -> Any:
    """Return the value of the first of these types that it is one of: of `X | Y | None`."""
    *others, last = [kind for kind in kinds if kind is not type(None)]
    for kind in others:
        try:
            return _made(kind, found)
        except (ValueError, TypeError):
            continue
    return _made(last, found)


@cache
def _types(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))


def _checked(found: Any, right: bool) -> Any:
    if not right:
        raise ValueError(f"not what was kept: {found!r}")
    return found
