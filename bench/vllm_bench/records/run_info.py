"""`<run_id>.json`: what a run was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from .request_record import RecordsError
from .safe_file import write_atomically

SCHEMA_VERSION = 1

RunStatus = Literal["running", "complete", "interrupted", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockPair:
    """One instant on both clocks: the wall clock, and the monotonic clock used for durations."""

    wall_s: float
    monotonic_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a run was: everything that is needed, besides its rows, to judge and repeat it.

    Written when the run starts (`status: running`) and replaced when it ends.
    """

    run_id: str
    status: RunStatus
    scenario: dict[str, Any]  # resolved settings, secrets masked
    concurrency: int | None  # None: an open loop
    # Those that have rows. Where a closed loop goes by time: at the end those that began; until
    # then the least that there will be, which may be 0.
    num_requests: int
    seeds: dict[str, int]
    prompts: dict[str, Any]  # dataset, sha256, distinct, counted_by, left_out
    server: dict[str, Any]  # version, model, max_model_len, system_fingerprint, cache_config
    server_counters: dict[str, dict[str, float] | None]  # before, after; None: not readable
    client: dict[str, Any]  # versions, git commit, machine
    clock_start: ClockPair
    clock_end: ClockPair | None = None
    request_rate: float | None = None  # requests/s asked for; None: a closed loop
    repeat: int = 1  # of the level, from 1
    plan: dict[str, Any] = field(default_factory=dict)  # sha256, shape, ...: see plan/plan.py
    unmeasured: dict[str, int] = field(default_factory=dict)  # warm-up and tail: see run/tally.py
    client_health: dict[str, Any] = field(default_factory=dict)  # see run/client_health.py
    observed: dict[str, Any] = field(default_factory=dict)  # gpu, server_metrics: see watch/
    notes: list[str] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write `<run_id>.json` to a temporary file and rename it: readers see all of it or nothing."""
    write_atomically(
        path, orjson.dumps(dataclasses.asdict(info), option=orjson.OPT_INDENT_2) + b"\n"
    )


def read_run_info(path: Path) -> RunInfo:
    """Read `<run_id>.json`. Raises RecordsError: missing, damaged or of another version."""
    try:
        raw = orjson.loads(path.read_bytes())
        if raw["schema_version"] != SCHEMA_VERSION:
            raise RecordsError(
                f"{path}: schema_version {raw['schema_version']}; this reads {SCHEMA_VERSION}"
            )
        raw["clock_start"] = ClockPair(**raw["clock_start"])
        raw["clock_end"] = raw["clock_end"] and ClockPair(**raw["clock_end"])
        return RunInfo(**raw)
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise RecordsError(f"{path}: not a run's JSON: {e}") from e
