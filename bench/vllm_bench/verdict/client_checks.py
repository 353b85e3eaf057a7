"""Doubts about the client itself: did its sending processes live, and keep up."""

from __future__ import annotations

from typing import Any

from ..figures.client import _too_few_ticks, _workers_of, busiest_cpu_share, loop_lag_p99_ms
from ..figures.digits import counted
from ..figures.facts import Facts
from . import finding
from .finding import Finding, Severity

MORE_CLIENT = (
    "give the client more CPU: stop other work, move it off the server's machine, or use more "
    "--workers"
)


def worker_lost(facts: Facts) -> Finding | None:
    """A sending process died, and what it was to send with it."""
    workers, lost = _workers(facts), lost_workers(facts)
    if not lost:
        return None
    lanes = sum(w.get("streams", 0) for w in lost)
    what = "connections" if facts.load.is_open else "streams"
    planned = facts.info.num_requests if facts.info else facts.rows
    return Finding(
        "worker_lost",
        Severity.INVALID,
        f"{len(lost)} of {len(workers)} sending processes died; {lanes} {what} were gone, and "
        f"{counted(planned - facts.rows, 'request')} without a row",
        "look for what killed it (memory?) in the system's log, and run again",
    )


def lost_workers(facts: Facts) -> list[dict[str, Any]]:
    """Return the sending processes that died before the end."""
    return [worker for worker in _workers(facts) if worker.get("lost")]


def loop_lag(facts: Facts) -> Finding | None:
    """The sending loop was late, so stamps were."""
    lag = loop_lag_p99_ms(facts.info)
    base = facts.token_gap_p50_ms or facts.ttft_p50_ms
    if lag is None or not base or lag <= finding.LOOP_LAG_FLOOR_MS:
        return None
    if _too_few_ticks(facts.info):
        return None  # a p99 of a second's ticks is its worst one; such a run is too short anyway
    severity = finding.LOOP_LAG.severity(lag / base)
    if severity is None:
        return None
    return Finding(
        "loop_lag",
        severity,
        f"the sending loop's lag is {lag:.1f} ms at p99, {lag / base:.0%} of {base:.1f} ms, the "
        "median gap between tokens",
        MORE_CLIENT,
    )


def client_cpu(facts: Facts) -> Finding | None:
    """A sending process came near to what a core can do."""
    busiest = busiest_cpu_share(facts.info)
    severity = None if busiest is None else finding.CLIENT_CPU.severity(busiest)
    if busiest is None or severity is None:
        return None
    return Finding(
        "client_cpu",
        severity,
        f"a sending process took {busiest:.0%} of a core in its busiest second",
        MORE_CLIENT,
    )


def _workers(facts: Facts) -> list[dict[str, Any]]:
    return _workers_of(facts.info)


# The file may have been edited by anybody: what is no number is no figure.
