"""Which runs of a folder are whole, and so need not be run again.

A run is known by what was asked for, and of whom: scenario, plan, repeat, settings, and what the
server says of itself. It is whole when it ended by itself and has a row for each of its requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .records import RecordsError, RunInfo, count_rows, read_run_info

NO_RUNS = ("summary.csv", "summary_levels.csv")  # what summarize.py leaves beside the runs


# Which levels a scenario has besides, and how it is called, says nothing of one run.
NOT_OF_A_RUN = ("concurrencies", "request_rates", "speed", "repeats", "description")
# It comes with the first reply, or says nothing of the server.
NOT_OF_A_SERVER = ("system_fingerprint", "on_client_machine")


@dataclass(frozen=True, slots=True)
class RunKey:
    """What was asked for, and of whom: two runs of one key would measure the same."""

    scenario: str
    plan_sha256: str
    repeat: int
    settings_sha256: str  # objectives, timeouts and telemetry too: a run can't be told without
    server_sha256: str  # of what the server says of itself: one with other flags is another

    @classmethod
    def of(cls, info: RunInfo) -> RunKey | None:
        """Return a run's key; None where its JSON doesn't say what it planned."""
        asked, plan, server = info.scenario, info.plan, info.server
        if not all(isinstance(part, dict) for part in (asked, plan, server)):
            return None
        name, sha256 = asked.get("name"), plan.get("sha256")
        if not all(isinstance(word, str) and word for word in (name, sha256)):
            return None
        if type(info.repeat) is not int:
            return None
        return cls.made(str(name), str(sha256), info.repeat, asked, server)

    @classmethod
    def made(
        cls,
        name: str,
        plan_sha256: str,
        repeat: int,
        settings: Mapping[str, Any],
        server: Mapping[str, Any],
    ) -> RunKey:
        """Return the key of a run with these settings (masked) on such a server."""
        return cls(
            name,
            plan_sha256,
            repeat,
            _sha256(settings, without=NOT_OF_A_RUN),
            _sha256(server, without=NOT_OF_A_SERVER),
        )


def _sha256(facts: Mapping[str, Any], without: Sequence[str]) -> str:
    kept = {key: value for key, value in facts.items() if key not in without}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()


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
