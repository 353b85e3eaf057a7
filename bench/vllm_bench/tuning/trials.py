"""`tune.json`: what was tried, start by start, and what became of it.

Written after each start, so that a killed script loses nothing, and `--resume` goes on behind the
last whole one. It has no value of a secret: only settings that differ between configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..errors import UsageError
from ..launch.left_behind import Process, end_orphan
from ..records.beside.going_on import Kept, KeptError, read_kept, readable
from ..records.find_runs import load_run
from ..records.text import printable
from ..summary.summary import RunSummary, summarize

FOLDER, FILE, RUNS, LOGS = "tune", "tune.json", "runs", "logs"

# `screen`: one short level; `full`: every level; `again`: the two best by turns.
Stage = Literal["screen", "full", "again"]


class Highest(Kept):
    """What a search for the capacity found."""

    value: float | None  # requests/s or streams; None: no load met the objectives
    unit: str  # requests/s, streams, sessions
    words: str
    below: bool = False  # not even the lowest load that was tried met them


class Trial(Kept):
    """One start of a server with a configuration, and the runs on it."""

    stage: Stage
    configuration: str
    label: str
    visit: int = Field(0, ge=0)  # of the two best by turns, from 1; 0: of the other stages
    pair: int = Field(0, ge=0)
    settings: dict[str, str] = Field(default={})  # that differ from the base's
    began: str  # UTC
    took_s: float
    ready_s: float | None = None  # from start to ready; None: it never was
    server: dict[str, Any] = Field(default={})  # settings in force, as it says itself
    run_ids: tuple[str, ...] = ()  # from the folder on: runs/demo-…
    capacity: Highest | None = None
    why: str | None = None  # it failed
    log: tuple[str, ...] = ()  # its last lines then

    @property
    def key(self) -> tuple[Stage, str, int]:
        return self.stage, self.label, self.visit

    @property
    def kv_tokens(self) -> int | None:
        """Tokens that the KV cache holds, as the server says."""
        return _whole(self.server.get("kv_cache_size_tokens"))

    @property
    def most_concurrent(self) -> float | None:
        """Requests of full length that fit into the cache at once, as the server says."""
        return _number(self.server.get("kv_cache_max_concurrency"))


class Tuning(Kept):
    """A tune as far as it has come."""

    schema_version: Literal[1] = 1
    kind: Literal["tune"] = "tune"
    id: str
    asked_sha256: str  # of configurations, base, scenario and aim, secrets left out
    by: Process | None = None  # the script
    server: Process | None = None  # the one that stands now, leader of its session
    trials: tuple[Trial, ...] = ()

    def made(self, stage: Stage, label: str, visit: int = 0) -> Trial | None:
        """Return a trial that was made, if it was; the last one."""
        key = (stage, label, visit)
        return next((t for t in reversed(self.trials) if t.key == key), None)

    def with_trial(self, trial: Trial) -> Tuning:
        """Return it with a start that has ended, its server too."""
        return self.model_copy(update={"trials": (*self.trials, trial), "server": None})

    def at(self, stage: Stage) -> tuple[Trial, ...]:
        """Return a stage's trials, of each start the last."""
        found = {trial.key: trial for trial in self.trials if trial.stage == stage}
        return tuple(found.values())


def read_tuning(folder: Path) -> Tuning:
    """Read a folder's tune.json. Raises KeptError."""
    found = read_kept(folder / FILE, "written by tune.py", Tuning.model_validate_json)
    if found.id != folder.name:
        raise KeptError(f"{folder / FILE}: of another tune: {printable(found.id, 60)}")
    return found


def tunings(results: Path) -> Iterator[Tuning]:
    """Return what was kept in a results folder, the newest first."""
    folders = [path.parent for path in (results / FOLDER).glob(f"*/{FILE}")]
    return readable(sorted(folders, reverse=True), read_tuning)


def earlier(results: Path, asked_sha256: str) -> Tuning | None:
    """Return what was kept last where the same was asked, if anything.

    Raises UsageError where a script is at it.
    """
    found = next((one for one in tunings(results) if one.asked_sha256 == asked_sha256), None)
    if found is not None and found.by is not None and found.by.lives:
        raise UsageError(f"{found.id} goes on: process {found.by.pid} makes it")
    return found


def end_left_behind(results: Path, say: Callable[[str], None]) -> None:
    """End the servers of killed scripts. Raises StaysError."""
    for tuning in tunings(results):
        end_orphan(tuning.server, tuning.by, "tune.py", say)


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A trial with what its runs say."""

    trial: Trial
    runs: tuple[RunSummary, ...]


class Runs:
    """The runs of a tune's folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, RunSummary] = {}

    def tried(self, trials: Sequence[Trial]) -> list[Tried]:
        return [Tried(trial, tuple(self._of(trial))) for trial in trials]

    def _of(self, trial: Trial) -> Iterator[RunSummary]:
        for run_id in trial.run_ids:
            path = self._folder / f"{run_id}.csv"
            if run_id not in self._known and path.exists():
                self._known[run_id] = summarize(load_run(path))
            if run_id in self._known:
                yield self._known[run_id]


def _number(value: object) -> float | None:
    try:
        return float(str(value).rstrip("x"))
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    found = _number(value)
    return None if found is None else round(found)


def in_force(server: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a server's facts what a trial keeps: plain values."""
    return {k: v for k, v in server.items() if v is None or isinstance(v, str | int | float)}
