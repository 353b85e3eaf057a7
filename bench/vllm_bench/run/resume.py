"""Which runs of a folder are whole, and so need not be run again.

A run is known by what was asked for, and of whom: scenario, plan, repeat, settings, and what the
server says of itself. It is whole when it ended by itself and has a row for each of its requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..records.request_record import RecordsError, count_rows
from ..records.run_info import RunInfo, read_run_info
from ..records.same_run import RunKey

NO_RUNS = ("summary.csv", "summary_levels.csv")  # what summarize.py leaves beside the runs


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
