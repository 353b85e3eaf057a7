"""Doubts about the load: was it held, for long enough, and sent on time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.in_flight import SEND_LAG_FLOOR_MS, InFlight, busy_streams, in_system
from ..figures.statistics import Values, floats, highest_allowed, quantile
from ..figures.throughput import arrival_rates
from . import finding
from .advice import less_load, longer_window
from .finding import Finding, Severity


def window_short(facts: Facts) -> Finding | None:
    """The steady window is too short for what happened in it to be typical, or there is none."""
    if facts.latency_p50_ms is None:
        return None
    latencies_s = finding.MIN_WINDOW_LATENCIES * facts.latency_p50_ms / 1000
    needed_s = max(finding.MIN_WINDOW_S, latencies_s)
    # A closed loop that ran for long enough and never held its load: rate_shortfall's to judge.
    length_s = facts.window.length_s if facts.window else 0 if facts.load.is_open else facts.span_s
    if (length_s or 0) >= needed_s:
        return None
    held, of_it = f"was never held: {_why_not_held(facts)}", "of it "
    if facts.window is not None:
        held, of_it = f"was held for {facts.window.length_s:.1f} s", ""
    return Finding(
        "window_short",
        Severity.SUSPECT,
        f"the load of {facts.load.words} {held}; {needed_s:.0f} s {of_it}are "
        "needed for a single hiccup not to weigh on the figures",
        f"fine for a smoke test; to measure, {longer_window(facts, needed_s)} for this level",
    )


def _why_not_held(facts: Facts) -> str:
    """Return why a run has no steady window."""
    if not facts.load.is_open:
        sent, peak = _sent(facts), facts.flight.peak if facts.flight else 0
        if sent < facts.load.value:
            return f"{counted(sent, 'request')} {'was' if sent == 1 else 'were'} sent"
        if peak < facts.load.value:
            return f"at most {peak} {'was' if peak == 1 else 'were'} in flight at once"
        return "all were in flight for a moment alone"
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


def _sent(facts: Facts) -> int:
    return int(facts.frame["t_sent_s"].notna().sum())


def send_lag(facts: Facts) -> Finding | None:
    """Requests left the client later than they should have."""
    percentile = highest_allowed(int(facts.own_lag_ms.size))
    lag = None if percentile is None else quantile(facts.own_lag_ms, percentile)
    base = facts.ttft_p50_ms if facts.ttft_p50_ms is not None else facts.latency_p50_ms
    if lag is None or not base or lag <= SEND_LAG_FLOOR_MS:
        return None
    severity = finding.SEND_LAG.severity(lag / base)
    if severity is None:
        return None
    what = "TTFT" if facts.ttft_p50_ms is not None else "latency"
    return Finding(
        "send_lag",
        severity,
        f"send lag p{percentile:g} is {lag:.1f} ms, {lag / base:.0%} of the median {what} of "
        f"{base:.1f} ms",
        "give the client more CPU (stop other work, move it off the server's machine) or lower "
        f"{less_load(facts)}",
    )


def rate_shortfall(facts: Facts) -> Finding | None:
    """Less load was sent or held than the scenario asked for."""
    return _slow(facts) if facts.load.is_open else _idle(facts)


def _slow(facts: Facts) -> Finding | None:
    """Return whether an open loop fell behind its schedule, which is drawn and no round number."""
    found = arrival_rates(facts.frame)
    short = 0.0 if found is None else 1 - found.sent / found.scheduled
    severity = finding.RATE_SHORTFALL.severity(short)
    if found is None or severity is None:
        return None
    capped = facts.waited_for_cap.any()
    return Finding(
        "rate_shortfall",
        severity,
        f"requests were sent at {found.sent:.4g} requests/s, {100 * short:.1f} % below the "
        f"schedule's {found.scheduled:.4g}",
        "max_in_flight held them back: raise it, or offer a rate that the server sustains"
        if capped
        else "look for connections that were refused or reopened (connect_ms, errors), and give "
        "the client more CPU: what is sent late or never is load that the server missed",
    )


def _idle(facts: Facts) -> Finding | None:
    """Return whether a closed loop's streams stood idle while there was work."""
    held = _held(facts)
    if held is None:
        return None
    short = 1 - held / facts.load.value
    severity = finding.RATE_SHORTFALL.severity(short)
    if severity is None:
        return None
    return Finding(
        "rate_shortfall",
        severity,
        f"{held:.2f} of {facts.load.words} were busy while there was work, {100 * short:.1f} % "
        "fewer than asked",
        _too_little_work(facts)
        or "look for connections that were refused or reopened (connect_ms, errors), and give "
        "the client more CPU: a stream that waits for the client is load that the server missed",
    )


def _too_little_work(facts: Facts) -> str | None:
    """Return what to do where not every stream had something to do; None: each had."""
    if facts.info is None:
        return None
    if facts.info.num_requests < facts.load.value:
        return "num_requests is below the number of streams: send at least ten times as many"
    talk = facts.setting("conversations")
    turns = talk.get("turns") if isinstance(talk, dict) else None
    if turns and facts.info.num_requests < facts.load.value * turns:
        return (
            f"there were fewer conversations than streams (num_requests / {turns} turns): send at "
            "least ten times as many"
        )
    return None


def _held(facts: Facts) -> float | None:
    """Return the streams that were busy on average, from all of them on to the last send."""
    busy, window = busy_streams(facts.frame), facts.window
    if busy is None or facts.load.value <= 0:
        return None
    # Once the last request is sent, or the last conversation begun, a stream that is done has
    # nothing left to take.
    taken = facts.frame[facts.frame["turn"].isna() | (facts.frame["turn"] == 1)]
    last_sent_s = float(taken["t_sent_s"].max())
    if window is None or last_sent_s <= window.start_s:
        return float(busy.peak)
    return busy.mean_between(window.start_s, last_sent_s)


@dataclass(frozen=True, slots=True)
class _Thirds:
    """The middle and the last third of a run. The first is left out: there the queue fills."""

    middle: float  # requests waiting or served, on average
    late: float
    middle_arrivals: int
    late_arrivals: int
    between: int  # arrivals from the middle of the one to that of the other


def not_stationary(facts: Facts) -> Finding | None:
    """More was offered than served: the queue grew for as long as the run lasted."""
    found = _thirds(facts)
    if found is None or found.between < finding.MIN_ARRIVALS:
        return None
    # By Little's law as many more are under way as arrive more often; what is beyond is queue.
    more = found.late_arrivals / max(1, found.middle_arrivals) if facts.load.is_open else 1.0
    expected = found.middle * more
    grown = found.late - expected
    if grown <= finding.QUEUE_NOISE * _burstiness(facts) * math.sqrt(found.middle):
        return None
    severity = finding.NOT_STATIONARY.severity(grown / found.between)
    if severity is None:
        return None
    what, expectation = "requests in flight", ""
    if facts.load.is_open:
        what, expectation = "requests due and unanswered", f" ({expected:.1f} by its arrivals)"
    return Finding(
        "not_stationary",
        severity,
        f"{what} grew from {found.middle:.1f} in the middle third of the run to "
        f"{found.late:.1f} in the last{expectation}: {100 * grown / found.between:.0f} % of the "
        "arrivals only lengthened the queue",
        "there is no steady state to measure: offer less, or report this rate as one that the "
        "server doesn't sustain; latencies here depend on how long the run was",
    )


def _thirds(facts: Facts) -> _Thirds | None:
    """Return the run's thirds; in an open loop after its ramp, with what waits in the client."""
    is_open = facts.load.is_open
    flight: InFlight | None = in_system(facts.frame) if is_open else facts.flight
    arrivals = floats(facts.frame["t_scheduled_s" if is_open else "t_sent_s"])
    if flight is None or arrivals.size == 0:
        return None
    start_s, end_s = float(arrivals.min()), float(arrivals.max())
    start_s = max(start_s, facts.plan_number("ramp_s") or 0.0)
    if end_s <= start_s:
        return None
    edges = start_s + (end_s - start_s) * np.arange(7) / 6
    return _Thirds(
        middle=flight.mean_between(edges[2], edges[4]),
        late=flight.mean_between(edges[4], end_s),
        middle_arrivals=_count(arrivals, edges[2], edges[4]),
        late_arrivals=_count(arrivals, edges[4], math.inf),
        between=_count(arrivals, edges[3], edges[5]),
    )


def _count(arrivals_s: Values, start_s: float, end_s: float) -> int:
    return int(((arrivals_s >= start_s) & (arrivals_s < end_s)).sum())


def _burstiness(facts: Facts) -> float:
    """Return by how much more than Poisson's arrivals the run's vary: their cv, 1 at least."""
    return max(1.0, facts.plan_number("realised_cv") or 1.0)


def cap_bound(facts: Facts) -> Finding | None:
    """Requests waited in the client because `max_in_flight` were in flight already."""
    cap, waited = facts.plan_number("max_in_flight"), int(facts.waited_for_cap.sum())
    severity = finding.CAP_BOUND.severity(waited / facts.rows) if facts.rows else None
    if cap is None or severity is None:
        return None
    return Finding(
        "cap_bound",
        severity,
        f"{waited} of {counted(facts.rows, 'request')} ({100 * waited / facts.rows:.3g} %) waited "
        f"until one of {cap:.0f} in flight ended",
        "the cap set the pace, not the schedule: raise max_in_flight, or offer a lower rate; "
        "times from the schedule hold the wait, times from the send don't",
    )
