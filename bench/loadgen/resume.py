"""Which runs of a folder are whole, and so need not be run again.

A run is known by what was asked for: scenario, plan, repeat, server and model. It is whole when
it ended by itself and has a row for each of its requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .records import RecordsError, RunInfo, count_rows, read_run_info

NO_RUNS = ("summary.csv", "summary_levels.csv")  # what summarize.py leaves beside the runs


@dataclass(frozen=True, slots=True)
class RunKey:
    """What was asked for: two runs of one key would measure the same."""

    scenario: str
    plan_sha256: str
    repeat: int
    base_url: str
    model: str

    @classmethod
    def of(cls, info: RunInfo) -> RunKey | None:
        """Return a run's key; None where its JSON doesn't say what it planned."""
        asked, plan = info.scenario, info.plan
        if not isinstance(asked, dict) or not isinstance(plan, dict):
            return None
        words = [asked.get("name"), plan.get("sha256"), asked.get("base_url"), asked.get("model")]
        if not all(isinstance(word, str) and word for word in words):
            return None
        name, sha256, base_url, model = map(str, words)
        return cls(name, sha256, info.repeat, base_url, model) if type(info.repeat) is int else None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run as it lies on disk."""

    path: Path  # of its rows
    info: RunInfo
    rows: int

    @property
    def whole(self) -> bool:
        """Whether it ended by itself, with a row for each request."""
        return self.info.status == "complete" and self.rows == self.info.num_requests


def still_to_run(wanted: Sequence[RunKey], whole: Mapping[RunKey, Path]) -> list[RunKey]:
    """Return those of the wanted runs that must be run, in their order."""
    return [key for key in wanted if key not in whole]


def newest_whole(found: Iterable[FoundRun]) -> dict[RunKey, Path]:
    """Return the rows of each key's whole run; of several, the one that began last."""
    newest: dict[RunKey, FoundRun] = {}
    for run in found:
        key = RunKey.of(run.info)
        if key is None or not run.whole:
            continue
        if key not in newest or _began_s(newest[key]) <= _began_s(run):
            newest[key] = run
    return {key: run.path for key, run in newest.items()}


def _began_s(run: FoundRun) -> float:
    return run.info.clock_start.wall_s


def whole_runs(folder: Path, tell: Callable[[str], None] | None = None) -> dict[RunKey, Path]:
    """Return the rows of each whole run in a folder.

    `tell` is given a line on each run that can't be read; that one is to be run again.
    """
    found = []
    for path in sorted(folder.glob("*.csv")):
        if path.name in NO_RUNS or not path.with_suffix(".json").exists():
            continue
        try:
            info = read_run_info(path.with_suffix(".json"))
            found.append(FoundRun(path, info, count_rows(path)))
        except RecordsError as e:
            if tell is not None:
                tell(str(e))
    return newest_whole(found)
