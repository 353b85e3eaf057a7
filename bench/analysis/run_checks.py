"""Doubts about how a run was carried out: was it whole, long enough, and sent on time."""

from __future__ import annotations

import math

from . import client_checks, thresholds
from .facts import Facts
from .finding import Finding, Severity
from .statistics import min_samples, quantile


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
        f"{told}: {facts.rows} of {planned} requests have a row, {facts.cancelled} of them "
        "cancelled",
        "run it again to the end; the requests that are missing are the slow ones",
    )


def errors(facts: Facts) -> Finding | None:
    """Requests failed; those that the client cancelled itself count as `interrupted`."""
    judged = facts.rows - facts.cancelled
    failed = len(facts.failures) - facts.cancelled
    severity = thresholds.ERRORS.severity(failed / judged) if judged else None
    if severity is None:
        return None
    kinds = facts.failures["error_kind"].fillna("unknown").value_counts()
    named = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if kind != "cancelled")
    return Finding(
        "errors",
        severity,
        f"{failed} of {judged} requests failed ({100 * failed / judged:.3g} %): {named}",
        "read the example messages and the server's log, remove the cause, run again: refused "
        "work makes the rest look fast",
    )


def few_samples(facts: Facts) -> Finding | None:
    """Too few successes even for a median."""
    needed = min_samples(50)
    succeeded = len(facts.succeeded)
    if succeeded >= needed:
        return None
    more = f"set num_requests to {min_samples(95)} for p95, {min_samples(99)} for p99"
    return Finding(
        "few_samples",
        Severity.SUSPECT,
        f"{succeeded} requests succeeded; a median needs {needed}",
        "remove what made requests fail" if facts.rows >= needed else more,
    )


def window_short(facts: Facts) -> Finding | None:
    """The run is too short for its start and its drain not to matter."""
    if facts.span_s is None or facts.latency_p50_ms is None:
        return None
    latencies_s = thresholds.MIN_WINDOW_LATENCIES * facts.latency_p50_ms / 1000
    needed_s = max(thresholds.MIN_WINDOW_S, latencies_s)
    if facts.span_s >= needed_s:
        return None
    return Finding(
        "window_short",
        Severity.SUSPECT,
        f"the run took {facts.span_s:.1f} s; {needed_s:.0f} s are needed for start and drain not "
        "to weigh on the figures",
        f"fine for a smoke test; to measure, set num_requests to about "
        f"{_two_digits_up(facts.rows * needed_s / facts.span_s)} for this level",
    )


def _two_digits_up(number: float) -> int:
    """Return the number, rounded up to two digits that matter."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step


def send_lag(facts: Facts) -> Finding | None:
    """Requests left the client later than they should have."""
    lag = quantile(facts.send_lag_ms, 99)
    base = facts.ttft_p50_ms if facts.ttft_p50_ms is not None else facts.latency_p50_ms
    if lag is None or not base or lag <= thresholds.SEND_LAG_FLOOR_MS:
        return None
    severity = thresholds.SEND_LAG.severity(lag / base)
    if severity is None:
        return None
    what = "TTFT" if facts.ttft_p50_ms is not None else "latency"
    return Finding(
        "send_lag",
        severity,
        f"send lag p99 is {lag:.1f} ms, {lag / base:.0%} of the median {what} of {base:.1f} ms",
        "give the client more CPU (stop other work, move it off the server's machine) or lower "
        "the concurrency",
    )


def prompt_reuse(facts: Facts) -> Finding | None:
    """Prompts were sent more than once, so the prefix cache may have helped."""
    uses = facts.info.prompts.get("max_uses") if facts.info else None
    if not isinstance(uses, int) or uses <= 1 or facts.setting("cache") == "cold":
        return None
    return Finding(
        "prompt_reuse",
        Severity.NOTE,
        f"prompts were sent up to {uses} times in this run",
        "a repeated prompt may be answered from the prefix cache: take a larger data set or "
        "set cache: cold",
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
