"""Doubts about how a run was carried out: is it complete, and long enough."""

from __future__ import annotations

import math

from ..figures.client import lost_workers
from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.objectives import run_objectives
from ..figures.statistics import min_samples
from .finding import Doubt, Severity, check

MIN_WINDOW_S = 10.0
MIN_WINDOW_LATENCIES = 3.0


@check("without settings, server and clocks most other checks can't be made", suspect="always")
def no_run_info(facts: Facts) -> Doubt | None:
    """The run's JSON is missing, so settings, server and server counters are unknown."""
    if facts.info is not None:
        return None
    return Doubt(
        "no readable <run_id>.json next to the rows",
        "copy the .json together with the .csv: without it nothing can be checked against "
        "settings or server",
    )


@check(
    "the missing requests aren't a random part: those cut off are the slow ones",
    suspect="any request missing",
    invalid="status failed, or no row at all",
)
def interrupted(facts: Facts) -> Doubt | None:
    """The run stopped before its last request, or the sending process died."""
    status = facts.info.status if facts.info else "unknown"
    complete = facts.rows >= facts.planned and not facts.cancelled and facts.rows > 0
    if complete and status in ("complete", "unknown"):
        return None
    if status == "complete" and lost_workers(facts.info):
        return None  # `worker_lost` says which rows are missing
    how = "cut off while running" if status == "running" else f"status {status}"
    missing = (
        "the requests that are missing are the slow ones"
        if facts.rows
        else "cut off in the warm-up: nothing was measured"
    )
    return Doubt(
        f"{how}: {facts.rows} of {counted(facts.planned, 'request')} have a row, "
        f"{facts.cancelled} of them cancelled",
        f"run it again to the end; {missing}",
        at_most=Severity.SUSPECT if facts.rows and status != "failed" else Severity.INVALID,
    )


@check(
    "share of requests: one in a thousand hardly affects p99, one in a hundred is p99 itself, "
    "and the other requests didn't have to wait for refused work",
    suspect=0.001,
    invalid=0.01,
)
def errors(facts: Facts) -> Doubt | None:
    """Requests failed; those that the client cancelled itself count as `interrupted`."""
    judged = facts.rows - facts.cancelled
    if not judged:
        return None
    failed = len(facts.failures) - facts.cancelled
    kinds = facts.failures["error_kind"].fillna("unknown").value_counts()
    named = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if kind != "cancelled")
    return Doubt(
        f"{failed} of {counted(judged, 'request')} failed ({100 * failed / judged:.3g} %): {named}",
        "read the example messages and the server's log, remove the cause, run again: refused "
        "work makes the other requests look fast",
        failed / judged,
    )


@check(
    "with fewer, no 95 % interval for the percentile exists, so it means nothing",
    suspect="fewer than the percentile needs",
)
def few_samples(facts: Facts) -> Doubt | None:
    """Too few successes for a median, or for the percentile that an objective names."""
    asked = [100 * o.share for o in run_objectives(facts) if o.metric is not None]
    highest = max((round(q, 6) for q in asked), default=50.0)
    needed = max(min_samples(50), min_samples(highest))
    succeeded = len(facts.succeeded)
    if succeeded >= needed:
        return None
    wants = f"p{highest:g}, which an objective names," if asked else "a median"
    more = f"; p95 needs {min_samples(95)} requests, p99 {min_samples(99)}"
    return Doubt(
        f"{counted(succeeded, 'request')} succeeded; {wants} needs {needed}",
        "remove what made requests fail"
        if facts.rows >= needed
        else f"{more_requests(facts, needed)}{'' if asked else more}",
    )


@check(
    "fewer than three generations of requests don't reach a steady state, and in less than 10 s "
    "a pause of one second is a tenth of everything",
    suspect=f"none, < {MIN_WINDOW_S:g} s, or < {MIN_WINDOW_LATENCIES:g} times the median latency",
)
def window_short(facts: Facts) -> Doubt | None:
    """The steady window is too short to be typical, or there is none."""
    if facts.latency_p50_ms is None:
        return None
    needed_s = max(MIN_WINDOW_S, MIN_WINDOW_LATENCIES * facts.latency_p50_ms / 1000)
    # A closed loop that ran long enough but never held its load is left to rate_shortfall.
    length_s = facts.window.length_s if facts.window else 0 if facts.load.is_open else facts.span_s
    if (length_s or 0) >= needed_s:
        return None
    held, of_it = f"was never held: {_why_no_window(facts)}", "of it "
    if facts.window is not None:
        held, of_it = f"was held for {facts.window.length_s:.1f} s", ""
    return Doubt(
        f"the load of {facts.load.words} {held}; {needed_s:.0f} s {of_it}are "
        "needed so that a single pause doesn't change the figures much",
        f"fine for a smoke test; to measure, {longer_window(facts, needed_s)} for this level",
    )


def _why_no_window(facts: Facts) -> str:
    if facts.load.is_open:
        return _why_no_open_window(facts)
    sent, peak = (
        int(facts.frame["t_sent_s"].notna().sum()),
        facts.flight.peak if facts.flight else 0,
    )
    if sent < facts.load.value:
        return f"{counted(sent, 'request')} {'was' if sent == 1 else 'were'} sent"
    if peak < facts.load.value:
        return f"at most {peak} {'was' if peak == 1 else 'were'} in flight at once"
    return "all were in flight only for a moment"


def _why_no_open_window(facts: Facts) -> str:
    ramp_s, last_s = facts.ramp_s, float(facts.frame["t_scheduled_s"].max())
    if ramp_s >= last_s > 0:
        return (
            f"ramp_s of {ramp_s:g} s lasts as long as the run, whose last request was due at "
            f"{last_s:.1f} s"
        )
    after, start_s = "ramp" if ramp_s else "start", ramp_s + (facts.latency_p50_ms or 0) / 1000
    return (
        f"the last request was due at {last_s:.1f} s, and the steady window begins a median "
        f"latency after the {after}, at {start_s:.1f} s"
    )


def longer_window(facts: Facts, needed_s: float) -> str:
    """Return which key to set to what, so that the load is held for `needed_s`."""
    latency_s = max((facts.latency_p50_ms or 0.0) / 1000, 0.001)
    if facts.load.is_open:
        # The ramp, then until replies come as fast as requests, then the window.
        at_full_rate_s = facts.ramp_s / 2 + latency_s + needed_s
        return more_requests(facts, facts.load.value * at_full_rate_s)
    if facts.window is None:
        return more_requests(facts, facts.load.value * (needed_s / latency_s + 1))
    return more_requests(facts, facts.rows * needed_s / facts.window.length_s)


def more_requests(facts: Facts, count: float) -> str:
    """Return which key of the scenario to set to what for a run of about `count` requests."""
    duration_s = facts.setting("duration_s")
    if isinstance(duration_s, int | float) and facts.load.is_open and facts.load.value > 0:
        seconds = count / facts.load.value + facts.ramp_s / 2  # its mean rate is half the rate
        return f"set duration_s to about {_two_digits_up(seconds)}"
    if facts.setting("trace") and facts.setting("num_requests") is None:
        requests = counted(_two_digits_up(count), "request")
        return f"replay a longer piece of the trace, about {requests}"
    return f"set num_requests to about {_two_digits_up(count)}"


def _two_digits_up(number: float) -> int:
    """Return the number, rounded up to two significant digits."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step
