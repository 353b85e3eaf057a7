"""`<run_id>.json`: what a run was.

The file is checked once, here: what is read of it elsewhere has the kind that `SHAPE` gives it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from .kinds import (
    Shape,
    anything,
    at_least_0,
    count,
    flag,
    from_1,
    limits,
    moment,
    name,
    number,
    one_of,
    or_null,
    rate,
    share,
    text,
    tokens,
    whole,
)
from .request_record import RecordsError
from .safe_file import read_regular, write_atomically
from .text import printable

SCHEMA_VERSION = 1
MOST_BYTES = 64_000_000  # a day of a hundred sending processes' seconds
MOST_LEVELS = 32  # of mappings and lists in each other
MOST_TOLD = 3  # wrong places that are named; the others are counted

# `incomplete`: it went to its end without a machine, or a sending process, that was lost.
# `stopped`: by the search that it belongs to, since more of it would have shown nothing else.
RunStatus = Literal["running", "complete", "incomplete", "interrupted", "failed", "stopped"]
TO_THE_END = ("complete", "incomplete")  # after which a session's next run may follow


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
    session: str | None = None  # one for all runs of one call of bench.py; earlier ones had none
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
    unmeasured: dict[str, int] = field(default_factory=dict)  # see crew/unmeasured.py
    sessions: dict[str, Any] = field(default_factory=dict)  # see plan/sessions/counts.py
    client_health: dict[str, Any] = field(default_factory=dict)  # see crew/health.py
    observed: dict[str, Any] = field(default_factory=dict)  # gpu, server_metrics: see watch/
    # Which part it is of what ab.py, capacity.py or tune.py asked: its kind, id, side, visit.
    experiment: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # What lay beside the rows at the end, as `tokens/<run_id>.npz`; earlier versions didn't say.
    files: list[str] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION
    others: dict[str, Any] = field(default_factory=dict)  # keys of another version, kept as read


FIELDS = {f.name: f for f in dataclasses.fields(RunInfo) if f.name != "others"}


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write `<run_id>.json` to a temporary file and rename it: readers see all of it or nothing."""
    found = dataclasses.asdict(info)
    others = found.pop("others")
    data = orjson.dumps({**found, **others}, option=orjson.OPT_INDENT_2)
    write_atomically(path, data + b"\n")


# ---- what is read, and of which kind it must be ----

CLOCK = {"wall_s": moment, "monotonic_ns": whole}
TIMES = {"ticks": or_null(count), "*": or_null(number)}  # quantiles in ms
LATENESS: Shape = {"*": TIMES}
WORKER: Shape = {
    **{"lost": flag, "streams": count, "cpu_share_per_second": [number], "cpu_s": anything},
    **{"machine": or_null(name), "clock": or_null(text), "clock_error_ms": or_null(at_least_0)},
    "loop_lag_ms": TIMES,
}
MACHINE: Shape = {
    "machine": name,
    **dict.fromkeys(("host", "boot_id"), or_null(name)),
    **dict.fromkeys(("cores", "senders", "rows", "fetched"), or_null(tokens)),
    "nice": or_null(whole),
    "lost": or_null(text),
    **dict.fromkeys(("offset_ms", "drift_ppm", "start_apart_ms"), or_null(number)),
    "offset_error_ms": or_null(at_least_0),
    "ping_ms": {"*": or_null(number)},
    "server_here": or_null(flag),
    "lateness_ms": LATENESS,
}
SAMPLER = {
    **{"file": text, "rows": count, "source": or_null(text), "hz": or_null(number)},
    "problems": [{"code": or_null(text), "text": or_null(text)}],
    "gaps": [
        {
            **{"gpu_index": or_null(count), "code": or_null(text)},
            **{"from_s": or_null(number), "to_s": or_null(number)},
        }
    ],
    "gpus": [{"index": or_null(count), "uuid": or_null(text), "name": or_null(text)}],
    "engines": [text],
}
SLO: Shape = {
    **dict.fromkeys(
        ("ttft_ms", "ttfa_ms", "tpot_ms", "latency_ms", "max_gap_ms", "job_served_s"),
        or_null(limits),
    ),
    **{key: {"min": at_least_0} for key in ("output_tokens_per_s", "requests_per_s")},
    "success_rate": or_null(share),
}
PREFIX: Shape = {
    **dict.fromkeys(("wanted_share", "possible_share"), or_null(share)),
    **dict.fromkeys(("groups", "tokens", "working_set_tokens"), or_null(tokens)),
    "primed_cached_tokens": or_null(tokens),
    "block_size": from_1,
    "block_size_known": flag,
}
SCENARIO: Shape = {
    **dict.fromkeys(("name", "model", "dataset", "cache"), text),
    **dict.fromkeys(("label", "system_prompt", "base_url"), or_null(text)),
    **dict.fromkeys(("stream", "ignore_eos"), flag),
    **dict.fromkeys(("prefill_tokens", "max_new_tokens", "gpus"), or_null(count)),
    **dict.fromkeys(("duration_s", "gpu_hour_price"), or_null(at_least_0)),
    "extra_body": {"n": or_null(from_1)},
    "conversations": {"turns": from_1},
    "response_format": {"type": text},
    "priority": or_null(whole),
    "slo": SLO,
    "slo_tiers": {"*": SLO},
    "classes": {"*": {"slo": SLO, "share": or_null(share), "streams": or_null(from_1)}},
}
LEVEL: dict[str, Shape] = {
    "concurrency": or_null(from_1),
    "request_rate": or_null(rate),
    "num_requests": count,
}
PROMPTS: Shape = {"max_uses": or_null(count), **dict.fromkeys(("dataset", "sha256"), or_null(text))}
PLAN: dict[str, Shape] = {
    **dict.fromkeys(("sha256", "shape", "start", "history"), or_null(text)),
    **dict.fromkeys(("speed", "realised_rate"), or_null(rate)),
    **dict.fromkeys(("ramp_s", "realised_cv", "trace_shared_share"), or_null(at_least_0)),
    "max_gap_s": or_null(at_least_0),
    "max_in_flight": or_null(from_1),
    "prefix": PREFIX,
}
SHAPE: dict[str, Shape] = {
    "schema_version": whole,
    "run_id": text,
    "status": one_of(get_args(RunStatus)),
    "session": or_null(text),
    "scenario": SCENARIO,
    **LEVEL,
    "repeat": from_1,
    "seeds": {"*": whole},
    "prompts": PROMPTS,
    "server": {
        **dict.fromkeys(("version", "model", "model_root", "system_fingerprint"), or_null(text)),
        **dict.fromkeys(("simulator", "on_client_machine"), or_null(flag)),
        "aliases": [text],
        "cache_config": {},
        "replied_as": {"*": count},
        "settings": {},  # in force, as far as the server, or its log, tells
    },
    "server_counters": {"*": {"*": number}},
    "client": {"packages": {"*": or_null(text)}, "git_commit": or_null(text)},
    "clock_start": CLOCK,
    "clock_end": CLOCK,
    "plan": {
        **PLAN,
        "alone": or_null(text),
        "classes": {"*": {**LEVEL, "scenario": SCENARIO, "prompts": PROMPTS, "plan": PLAN}},
        "quality": {**dict.fromkeys(("pass", "set"), text), "questions": count},
    },
    "unmeasured": {"*": tokens},
    "sessions": {"gaps_cut_s": at_least_0, "*": count},
    "client_health": {
        "workers": [WORKER],
        "machines": [MACHINE],
        "loop_lag_ms": TIMES,
        "lateness_ms": LATENESS,
        "clock": or_null(text),
        "clock_error_ms": or_null(at_least_0),
        **dict.fromkeys(
            ("token_events", "token_reads", "merged_reads", "first_reads", "merged_first_reads"),
            or_null(tokens),
        ),
    },
    "observed": {
        **{"gpu": SAMPLER, "server_metrics": SAMPLER},
        "profile": {
            **dict.fromkeys(("seconds", "from_s", "to_s"), or_null(number)),
            "problem": or_null(text),
        },
    },
    "experiment": {
        **dict.fromkeys(("kind", "id", "side"), text),
        **dict.fromkeys(("visit", "pair"), or_null(from_1)),
        "dropped": or_null(count),  # requests at its start that a search doesn't count
        **dict.fromkeys(("restarted", "made_again"), flag),
        "ready_s": or_null(at_least_0),
    },
    "notes": [text],
    "files": [text],
}
NEEDED = ("run_id", "status", "scenario", "num_requests", "clock_start", "schema_version")
NULLABLE = ("concurrency", "request_rate", "clock_end", "session")
HEAD = (*NEEDED, "session", "concurrency", "request_rate", "repeat", "plan", "experiment")
EMPTY: dict[str, Any] = {
    **{name: {} for name in ("seeds", "prompts", "server", "server_counters", "client")},
    "concurrency": None,
}
_WRONG = object()  # in place of a value of the wrong kind


def read_run_info(path: Path) -> RunInfo:
    """Read `<run_id>.json`. Raises RecordsError: missing, damaged or of another version."""
    info, problem = read_what_is_right(path)
    if problem:
        raise RecordsError(problem)
    return info


def read_what_is_right(path: Path) -> tuple[RunInfo, str | None]:
    """Read `<run_id>.json` without what has a wrong kind, and say what that was; None: nothing.

    Raises RecordsError where it is missing, no run's, of another version, or lacks what is needed.
    """
    return _made(path, _mapping(path))


def read_head(path: Path) -> RunInfo:
    """Read which run a `<run_id>.json` is of, and nothing else: of thousands in a second or two.

    What has a wrong kind is left out. Raises RecordsError as `read_what_is_right` does, and where
    it is another run's.
    """
    raw = _mapping(path)
    info, _ = _made(path, {key: raw[key] for key in HEAD if key in raw})
    if info.run_id != path.stem:
        raise RecordsError(f"{path}: of another run: {printable(info.run_id, 100)}")
    return info


def _mapping(path: Path) -> dict[str, Any]:
    """Return what the file says, of any kind. Raises RecordsError."""
    try:
        raw = orjson.loads(read_regular(path, MOST_BYTES))
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except ValueError as e:
        raise RecordsError(f"{path}: not a run's JSON: {e}") from e
    if not isinstance(raw, dict):
        raise RecordsError(f"{path}: not a run's JSON: it must be a mapping")
    if raw.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        said = printable(raw["schema_version"], 40)
        raise RecordsError(f"{path}: schema_version {said}; this reads {SCHEMA_VERSION}")
    return raw


def _made(path: Path, raw: dict[str, Any]) -> tuple[RunInfo, str | None]:
    if _too_deep(raw, MOST_LEVELS):
        raise RecordsError(f"{path}: not a run's JSON: it must be a mapping of few levels")
    wrong: list[str] = []
    right = _right(raw, SHAPE, "", wrong)
    lacking = [name for name in NEEDED if name not in right]
    lacking += [f"clock_start.{name}" for name in CLOCK if name not in right.get("clock_start", {})]
    if lacking:
        told = wrong or [f"{name} is missing" for name in lacking]
        raise RecordsError(f"{path}: not a run's JSON: {_listed(told)}")
    end = right.get("clock_end")
    right["clock_start"] = ClockPair(**{name: right["clock_start"][name] for name in CLOCK})
    right["clock_end"] = (
        ClockPair(**{n: end[n] for n in CLOCK}) if end and {*CLOCK} <= {*end} else None
    )
    known = {name: value for name, value in {**EMPTY, **right}.items() if name in FIELDS}
    others = {name: value for name, value in right.items() if name not in FIELDS}
    problem = f"{path}: left out what has a wrong kind: {_listed(wrong)}" if wrong else None
    return RunInfo(**known, others=others), problem


def _right(found: Any, shape: Shape, path: str, wrong: list[str]) -> Any:
    """Return what is right of a value, `_WRONG` where nothing is; tell what isn't."""
    if found is None and not callable(shape) and _may_be_null(path):
        return None  # nothing is known of it
    if isinstance(shape, dict) and isinstance(found, dict):
        others: Shape = shape.get("*", anything)
        parts = {
            key: _right(value, shape.get(key, others), f"{path}.{key}".strip("."), wrong)
            for key, value in found.items()
        }
        return {key: value for key, value in parts.items() if value is not _WRONG}
    if isinstance(shape, list) and isinstance(found, list):
        each = [_right(v, shape[0], f"{path}.{at}", wrong) for at, v in enumerate(found)]
        return [value for value in each if value is not _WRONG]
    if callable(shape) and shape(found):
        return found
    must = shape.must if callable(shape) else "a list" if isinstance(shape, list) else "a mapping"
    wrong.append(f"{printable(path, 100)} is {printable(found, 40)!r}, and must be {must}")
    return _WRONG


def _may_be_null(path: str) -> bool:
    """Whether a mapping or a list may be null there: not at the top, nor in a list."""
    above, _, last = path.rpartition(".")
    return path in NULLABLE or (above != "" and not last.isdecimal())


def _listed(wrong: list[str]) -> str:
    more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
    return "; ".join(wrong[:MOST_TOLD]) + more


def _too_deep(found: object, levels: int) -> bool:
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return levels < 0 or any(_too_deep(part, levels - 1) for part in parts)
