"""The client's own health in a run, from its JSON."""

from __future__ import annotations

from typing import Any

from ..records.run_info import RunInfo
from .statistics import min_samples


def loop_lag_p99_ms(info: RunInfo | None) -> float | None:
    """Return the 99th percentile of the sending loops' lag, in ms."""
    return _number(info.client_health.get("loop_lag_ms"), "p99") if info else None


def _too_few_ticks(info: RunInfo | None) -> bool:
    ticks = _number(info.client_health.get("loop_lag_ms"), "ticks") if info else None
    return ticks is not None and ticks < min_samples(99)


def busiest_cpu_share(info: RunInfo | None) -> float | None:
    """Return the share of a core that a sending process took in its busiest second."""
    shares = [_most(worker.get("cpu_share_per_second")) for worker in _workers_of(info)]
    return max((share for share in shares if share is not None), default=None)


def _workers_of(info: RunInfo | None) -> list[dict[str, Any]]:
    found = info.client_health.get("workers") if info else None
    return [w for w in found if isinstance(w, dict)] if isinstance(found, list) else []


def _number(found: object, key: str) -> float | None:
    value = found.get(key) if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _most(found: object) -> float | None:
    values = found if isinstance(found, list) else []
    return max((float(n) for n in values if isinstance(n, int | float)), default=None)
