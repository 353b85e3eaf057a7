"""Doubts about how a run was carried out: is it complete, and long enough."""

from __future__ import annotations

from collections import Counter

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.machines.machine import machines_of
from ..records.text import printable
from ..stats.distribution import min_samples
from .advice import longer_window, more_requests, why_no_window
from .finding import Doubt, Severity, check

MANY_CUT = 0.5
MIN_WINDOW_S = 10.0
MIN_WINDOW_LATENCIES = 3.0
LOST = ("worker_lost", "machine_lost")
CUT_SHORT = ("interrupted", *LOST)  # so there is too little of it, and less load


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


@check("a server that profiles itself is far slower: 618 tok/s for 2,900", suspect="any second")
def profiled(facts: Facts) -> Doubt | None:
    """vLLM's profiler was on during the run (--profile), or may have been."""
    profile = (facts.info.observed.get("profile") or {}) if facts.info else {}
    from_s = profile.get("from_s")
    if from_s is None and profile.get("asked_s") is None:
        return None
    problem = f": {printable(str(profile['problem']), 300)}" if profile.get("problem") else ""
    if from_s is None:
        return Doubt(
            f"the server was asked at {profile['asked_s']:.1f} s to profile itself, and it isn't "
            f"known whether it did{problem}",
            "look into the server's log, and run again",
        )
    until = "its end" if profile.get("to_s") is None else f"{profile['to_s']:.1f} s"
    written_s = profile.get("written_s")
    wrote = "" if written_s is None else f", and wrote that until {written_s:.1f} s"
    return Doubt(
        f"the server profiled itself from {from_s:.1f} s to {until}{wrote}{problem}",
        "read its traces for where time goes; for figures run it again without --profile",
    )


@check(
    "a run sees the long jobs end too if it lasts a few times as long as they do; those that had "
    "not ended with it are in no time",
)
def jobs_cut(facts: Facts) -> Doubt | None:
    """Many sessions had not ended with the run: its jobs are those that were short enough."""
    jobs = facts.jobs
    if jobs is None:
        return None
    going = sum(play.goes_on for play in jobs.plays)
    ended = sum(play.whole for play in jobs.plays)
    if going <= MANY_CUT * len(jobs.plays) and (ended or not going):
        return None
    return Doubt(
        f"{going} of {len(jobs.plays)} sessions had not ended, {ended} had",
        "to learn how long jobs take, set a longer duration_s; TTFT and pace are of all turns",
    )


@check(
    "fewer than three generations of requests don't reach a steady state, and in less than 10 s "
    "a pause of one second is a tenth of everything; without a window the figures are of all "
    "requests, start and end included",
    suspect=f"none, < {MIN_WINDOW_S:g} s, or < {MIN_WINDOW_LATENCIES:g} times the median latency",
    silenced_by=("not_stationary", *CUT_SHORT),  # of a longer run the queue is only longer
)
def window_short(facts: Facts) -> Doubt | None:
    """The steady window is too short to be typical, or there is none."""
    if facts.latency_p50_ms is None:
        return None
    needed_s = max(MIN_WINDOW_S, MIN_WINDOW_LATENCIES * facts.latency_p50_ms / 1000)
    if facts.window is not None and facts.window.length_s >= needed_s:
        return None
    held = f"was never held: {why_no_window(facts)}; figures are of all requests"
    if facts.window is not None:
        held = f"was held for {facts.window.length_s:.1f} s"
    return Doubt(
        f"the load of {facts.load.words} {held}; {needed_s:.0f} s are "
        "needed so that a single pause doesn't change the figures much",
        "fine for a smoke test; to measure, {set} for this level",
        sets=longer_window(facts, needed_s),
    )


@check(
    "the missing requests aren't a random part: those cut off are the slow ones",
    suspect="any request missing",
    invalid="status failed, or no row at all",
    silenced_by=LOST,
)
def interrupted(facts: Facts) -> Doubt | None:
    """The run stopped before its last request, or the sending process died."""
    status = facts.info.status if facts.info else "unknown"
    complete = facts.rows >= facts.planned and not facts.cancelled and facts.rows > 0
    if complete and status in ("complete", "unknown"):
        return None
    how = "cut off while running" if status == "running" else f"status {status}"
    if status == "stopped":
        return Doubt(
            f"ended early by the search that it belongs to: {facts.rows} of "
            f"{counted(facts.planned, 'request')} have a row, {facts.cancelled} of them cancelled",
            "the search had seen enough: its figures are of the part that there is",
            at_most=Severity.SUSPECT,
        )
    if facts.rows:
        missing = "the requests that are missing are the slow ones"
    elif machines_of(facts.info):
        missing = "its machines may keep rows: with them it fetches these first"
    else:
        missing = "cut off in the warm-up: nothing was measured"
    return Doubt(
        f"{how}: {facts.rows} of {counted(facts.planned, 'request')} have a row, "
        f"{facts.cancelled} of them cancelled",
        f"run it again to the end (bench.py --resume leaves out what is complete); {missing}",
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
    kinds = Counter(facts.failure_kinds).most_common()
    named = ", ".join(f"{n} {kind}" for kind, n in kinds if kind != "cancelled")
    return Doubt(
        f"{failed} of {counted(judged, 'request')} failed ({100 * failed / judged:.3g} %): {named}",
        "read the example messages and the server's log, remove the cause, run again: refused "
        "work makes the other requests look fast",
        failed / judged,
    )


@check(
    "with fewer, no 95 % interval for the median exists, so it means nothing",
    suspect=f"fewer than {min_samples(50)}",
    silenced_by=("errors", *CUT_SHORT),
)
def few_samples(facts: Facts) -> Doubt | None:
    """Too few successes for a median; percentiles and objectives say what they need themselves."""
    needed, succeeded = min_samples(50), len(facts.values("latency_ms"))
    if succeeded >= needed:
        return None
    return Doubt(
        f"figures are of {counted(succeeded, 'successful request')}; a median needs {needed}, p95 "
        f"{min_samples(95)}, p99 {min_samples(99)}",
        "{set}",
        sets=more_requests(facts, needed),
    )
