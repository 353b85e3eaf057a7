"""The client's own health in a run. Entries of a damaged JSON are ignored."""

from __future__ import annotations

from typing import Any, Literal

from ..records.run_info import RunInfo


def workers(info: RunInfo | None) -> list[dict[str, Any]]:
    """Return what each sending process noted about itself."""
    found = info.client_health.get("workers") if info else None
    return [w for w in found if isinstance(w, dict)] if isinstance(found, list) else []


def lost_workers(info: RunInfo | None) -> list[dict[str, Any]]:
    """Return the sending processes that died before the end."""
    return [worker for worker in workers(info) if worker.get("lost")]


def busiest_cpu_share(info: RunInfo | None) -> float | None:
    """Return the share of a core that a sending process took in its busiest second."""
    shares = [worker.get("cpu_share_per_second") for worker in workers(info)]
    known = [n for of_one in shares if isinstance(of_one, list) for n in of_one]
    return max((float(n) for n in known if isinstance(n, int | float)), default=None)


def lag_of_loops(info: RunInfo | None, key: Literal["p99", "ticks"]) -> float | None:
    """Return the p99 of the sending loops' lag in ms, or the number of ticks behind it."""
    found = info.client_health.get("loop_lag_ms") if info else None
    value = found.get(key) if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None
