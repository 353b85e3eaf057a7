"""The client's own health in a run. Entries of a damaged JSON are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..records.run_info import RunInfo
from ..stats.distribution import min_samples


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


@dataclass(frozen=True, slots=True)
class Exactness:
    """How wrong stamps can be, in ms at p99: of first tokens, and of tokens after others."""

    ttft_ms: float
    gaps_ms: float
    measured: bool  # by a clock outside of the sending loop; else the loop's own lag stands in


def exactness(info: RunInfo | None) -> Exactness | None:
    """Return how exact a run's stamps were; None where nothing is known of it."""
    found = info.client_health.get("stamp_error_ms") if info else None
    if isinstance(found, dict):
        ttft_ms, gaps_ms = (_p99(found.get(name)) for name in ("ttft", "gaps"))
        if ttft_ms is not None or gaps_ms is not None:
            return Exactness(ttft_ms or 0.0, gaps_ms or 0.0, measured=True)
    lag_ms, ticks = lag_of_loops(info, "p99"), lag_of_loops(info, "ticks")
    if lag_ms is None or (ticks is not None and ticks < min_samples(99)):
        return None  # the p99 of one second's ticks is the worst tick
    return Exactness(lag_ms, lag_ms, measured=False)


def _p99(found: object) -> float | None:
    value = found.get("p99") if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None
