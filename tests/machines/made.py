"""Runs of several machines made up for tests: their rows, and the JSON that the head writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from vllm_bench.records.request_record import RequestRecord

from tests.support.made_runs import made_record


def made_machine(name: str, **changes: Any) -> dict[str, Any]:
    """What the JSON says of a healthy machine."""
    return {
        "machine": name,
        "host": name,
        "cores": 4,
        "nice": 0,
        "boot_id": f"boot-of-{name}",
        "senders": 1,
        "lost": None,
        "rows": 25,
        "offset_ms": 0.01,
        "offset_error_ms": 0.1,
        "drift_ppm": 0.5,
        "start_apart_ms": 0.02,
        "fetched": 0,
        "server_here": False,
        "lateness_ms": None,
        **changes,
    }


def made_sender(machine: str, **changes: Any) -> dict[str, Any]:
    """What the JSON says of a healthy sending process."""
    lag_p99_ms = changes.pop("lag_p99_ms", 0.1)
    return {
        "worker": 0,
        "machine": machine,
        "streams": 1,
        "lost": False,
        "cpu_share_per_second": [0.1, 0.2],
        "loop_lag_ms": {"ticks": 1000, "p99": lag_p99_ms, "max": lag_p99_ms},
        "clock": "kernel",
        "clock_error_ms": 0.0001,
        **changes,
    }


NAMES = ("node-a", "node-b", "node-c", "node-d")


def made_health(
    names: Sequence[str] = NAMES,
    *,
    machines: dict[str, dict[str, Any]] | None = None,
    senders: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The health of a run of these machines; `machines` and `senders`: what is different of one."""
    return {
        "workers": [made_sender(name, **(senders or {}).get(name, {})) for name in names],
        "loop_lag_ms": {"ticks": 4000, "p99": 0.1, "max": 0.2},
        "clock": "kernel",
        "clock_error_ms": 0.0001,
        "lateness_ms": None,
        "machines": [made_machine(name, **(machines or {}).get(name, {})) for name in names],
        **changes,
    }


def of_machines(
    records: Sequence[RequestRecord], names: Sequence[str] = NAMES
) -> list[RequestRecord]:
    """The records, each by the machine of its stream, which are dealt in turns."""
    return [dataclasses.replace(r, machine=names[r.stream_index % len(names)]) for r in records]


def sent_by(count: int = 100, names: Sequence[str] = NAMES, **changes: Any) -> list[RequestRecord]:
    """A healthy run of these machines: four streams, four requests a second."""
    return of_machines([made_record(i, **changes) for i in range(count)], names)
