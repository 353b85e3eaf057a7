"""Doubts about how a run was carried out: was it whole, and large enough for what it is to say."""

from __future__ import annotations

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.objectives import run_objectives
from ..figures.statistics import min_samples
from . import client_checks, finding
from .advice import more_requests
from .finding import Finding, Severity


def no_run_info(facts: Facts) -> Finding | None:
    """The JSON beside the rows is missing, so settings, server and ledger are unknown."""
    if facts.info is not None:
        return None
    return Finding(
        "no_run_info",
        Severity.SUSPECT,
        "no readable <run_id>.json beside the rows",
        "copy the .json together with the .csv: without it nothing can be checked against "
        "settings or server",
    )


def interrupted(facts: Facts) -> Finding | None:
    """The run stopped before its last request, or the sending process died."""
    status = facts.info.status if facts.info else "unknown"
    planned = facts.info.num_requests if facts.info else facts.rows
    whole = facts.rows >= planned and not facts.cancelled and facts.rows > 0
    if whole and status in ("complete", "unknown"):
        return None
    if status == "complete" and client_checks.lost_workers(facts):
        return None  # `worker_lost` tells of the rows that are missing
    told = "cut off while running" if status == "running" else f"status {status}"
    lost = status == "failed" or facts.rows == 0
    return Finding(
        "interrupted",
        Severity.INVALID if lost else Severity.SUSPECT,
        f"{told}: {facts.rows} of {counted(planned, 'request')} have a row, {facts.cancelled} of "
        "them cancelled",
        "run it again to the end; "
        + (
            "the requests that are missing are the slow ones"
            if facts.rows
            else "cut off in the warm-up: nothing was measured"
        ),
    )


def errors(facts: Facts) -> Finding | None:
    """Requests failed; those that the client cancelled itself count as `interrupted`."""
    judged = facts.rows - facts.cancelled
    failed = len(facts.failures) - facts.cancelled
    severity = finding.ERRORS.severity(failed / judged) if judged else None
    if severity is None:
        return None
    kinds = facts.failures["error_kind"].fillna("unknown").value_counts()
    named = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if kind != "cancelled")
    return Finding(
        "errors",
        severity,
        f"{failed} of {counted(judged, 'request')} failed ({100 * failed / judged:.3g} %): {named}",
        "read the example messages and the server's log, remove the cause, run again: refused "
        "work makes the rest look fast",
    )


def few_samples(facts: Facts) -> Finding | None:
    """Too few successes for a median, or for the percentile that an objective names."""
    asked = [100 * o.share for o in run_objectives(facts) if o.metric is not None]
    highest = max((round(q, 6) for q in asked), default=50.0)
    needed = max(min_samples(50), min_samples(highest))
    succeeded = len(facts.succeeded)
    if succeeded >= needed:
        return None
    wants = f"p{highest:g}, which an objective names," if asked else "a median"
    more = f"; p95 takes {min_samples(95)} requests, p99 {min_samples(99)}"
    return Finding(
        "few_samples",
        Severity.SUSPECT,
        f"{counted(succeeded, 'request')} succeeded; {wants} needs {needed}",
        "remove what made requests fail"
        if facts.rows >= needed
        else f"{more_requests(facts, needed)}{'' if asked else more}",
    )


def clock_drift(facts: Facts) -> Finding | None:
    """The wall clock was set, or drifted, during the run."""
    start, end = (facts.info.clock_start, facts.info.clock_end) if facts.info else (None, None)
    if start is None or end is None:
        return None
    monotonic_s = (end.monotonic_ns - start.monotonic_ns) / 1e9
    drift_ms = 1000 * (end.wall_s - start.wall_s - monotonic_s)
    severity = finding.CLOCK_DRIFT_MS.severity(abs(drift_ms))
    if severity is None:
        return None
    return Finding(
        "clock_drift",
        severity,
        f"over {monotonic_s:.1f} s the wall clock moved {drift_ms:+.1f} ms against the monotonic "
        "one",
        "latencies are right, GPU samples and server logs lie beside the wrong requests: let the "
        "clock be disciplined before a run, not during it",
    )


def same_machine(facts: Facts) -> Finding | None:
    """Client and server share a machine."""
    if not (facts.info and facts.info.server.get("on_client_machine")):
        return None
    return Finding(
        "same_machine",
        Severity.NOTE,
        "client and server ran on one machine (or through a tunnel that looks so)",
        "they compete for cores; for figures to publish, send from another machine",
    )
