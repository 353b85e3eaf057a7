"""Doubts about the load: was it sent as asked, in time, and served as fast as it came."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.in_flight import SEND_LAG_FLOOR_MS, busy_streams, in_system
from ..figures.statistics import Values, floats, highest_allowed, quantile
from ..figures.throughput import arrival_rates
from .finding import Doubt, check

# Chance alone moves the queue by up to this, times the root of its length, times the arrivals' cv
# where that is above 1.
QUEUE_NOISE = 3.0
MIN_ARRIVALS = 30  # fewer say nothing about a trend


@check(
    "share of the load asked for that wasn't held (open loop: of the schedule's rate that wasn't "
    "sent): 1 % is half the smallest effect worth claiming, and above 5 % the run belongs to "
    "another level",
    suspect=0.01,
    invalid=0.05,
)
def rate_shortfall(facts: Facts) -> Doubt | None:
    """Less load was sent or held than the scenario asked for."""
    return _behind_schedule(facts) if facts.load.is_open else _idle_streams(facts)


def _behind_schedule(facts: Facts) -> Doubt | None:
    """Compare the rate sent with that of the schedule, which was drawn and isn't a round number."""
    rates = arrival_rates(facts.frame)
    if rates is None:
        return None
    short = 1 - rates.sent / rates.scheduled
    capped = facts.waited_for_cap.any()
    return Doubt(
        f"requests were sent at {rates.sent:.4g} requests/s, {100 * short:.1f} % below the "
        f"schedule's {rates.scheduled:.4g}",
        "max_in_flight held them back: raise it, or send at a rate that the server sustains"
        if capped
        else "look for connections that were refused or reopened (connect_ms, errors), and give "
        "the client more CPU: what is sent late or never is load that the server didn't get",
        short,
    )


def _idle_streams(facts: Facts) -> Doubt | None:
    busy = _mean_busy_streams(facts)
    if busy is None:
        return None
    short = 1 - busy / facts.load.value
    return Doubt(
        f"{busy:.2f} of {facts.load.words} were busy while there was work, {100 * short:.1f} % "
        "fewer than asked",
        _too_little_work(facts)
        or "look for connections that were refused or reopened (connect_ms, errors), and give "
        "the client more CPU: while a stream waits for the client, the server gets less load",
        short,
    )


def _mean_busy_streams(facts: Facts) -> float | None:
    """Return the average number of busy streams, from when all had begun to the last send."""
    busy, window = busy_streams(facts.frame), facts.window
    if busy is None or facts.load.value <= 0:
        return None
    # After the last request is sent, or the last conversation begun, a stream that has ended has
    # nothing left to take.
    taken = facts.frame[facts.frame["turn"].isna() | (facts.frame["turn"] == 1)]
    last_sent_s = float(taken["t_sent_s"].max())
    if window is None or last_sent_s <= window.start_s:
        return float(busy.peak)
    return busy.mean_between(window.start_s, last_sent_s)


def _too_little_work(facts: Facts) -> str | None:
    """Return the remedy where there was too little work for all streams; None: there was enough."""
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


@check(
    "share of requests that waited for another one to end: from one in a hundred on, the cap "
    "decides p99; above a tenth, requests come when the server lets them, as in a closed loop, and "
    "the cap set the load, not the schedule",
    suspect=0.01,
    invalid=0.10,
)
def cap_bound(facts: Facts) -> Doubt | None:
    """Requests waited in the client because `max_in_flight` were in flight already."""
    waited = int(facts.waited_for_cap.sum())
    if facts.cap is None or not facts.rows:
        return None
    share = waited / facts.rows
    return Doubt(
        f"{waited} of {counted(facts.rows, 'request')} ({100 * share:.3g} %) waited "
        f"until one of {facts.cap} in flight ended",
        "max_in_flight set the pace, not the schedule: raise it, or send at a lower rate; "
        "times from the schedule include the wait, times from the send don't",
        share,
    )


@check(
    "share of the arrivals late in the run that only lengthened the queue: waits then grow for as "
    "long as the run lasts, and above a fifth every mean and percentile depends on its length",
    suspect=0.05,
    invalid=0.20,
)
def not_stationary(facts: Facts) -> Doubt | None:
    """More requests came than were served: the queue grew for as long as the run lasted."""
    found = _thirds(facts)
    if found is None or found.between < MIN_ARRIVALS:
        return None
    # By Little's law requests in flight grow with the arrival rate; growth beyond that is queue.
    more = found.late_arrivals / max(1, found.middle_arrivals) if facts.load.is_open else 1.0
    expected = found.middle * more
    grown = found.late - expected
    burstiness = max(1.0, facts.plan_number("realised_cv") or 1.0)
    if grown <= QUEUE_NOISE * burstiness * math.sqrt(found.middle):
        return None
    what, expectation = "requests in flight", ""
    if facts.load.is_open:
        what, expectation = "requests due and unanswered", f" ({expected:.1f} by its arrivals)"
    share = grown / found.between
    return Doubt(
        f"{what} grew from {found.middle:.1f} in the middle third of the run to "
        f"{found.late:.1f} in the last{expectation}: {100 * share:.0f} % of the "
        "arrivals only lengthened the queue",
        "there is no steady state to measure: send less, or report this rate as one that the "
        "server doesn't sustain; latencies here depend on how long the run was",
        share,
    )


@dataclass(frozen=True, slots=True)
class _Thirds:
    """The middle and the last third of a run. The first is left out: there the queue fills."""

    middle: float  # requests waiting or served, on average
    late: float
    middle_arrivals: int
    late_arrivals: int
    between: int  # arrivals between the centres of the two


def _thirds(facts: Facts) -> _Thirds | None:
    """Return the run's thirds. Open loop: after the ramp, waits in the client included."""
    is_open = facts.load.is_open
    flight = in_system(facts.frame) if is_open else facts.flight
    arrivals_s = floats(facts.frame["t_scheduled_s" if is_open else "t_sent_s"])
    if flight is None or arrivals_s.size == 0:
        return None
    start_s, end_s = max(float(arrivals_s.min()), facts.ramp_s), float(arrivals_s.max())
    if end_s <= start_s:
        return None
    edges = start_s + (end_s - start_s) * np.arange(7) / 6
    return _Thirds(
        middle=flight.mean_between(edges[2], edges[4]),
        late=flight.mean_between(edges[4], end_s),
        middle_arrivals=_count(arrivals_s, edges[2], edges[4]),
        late_arrivals=_count(arrivals_s, edges[4], math.inf),
        between=_count(arrivals_s, edges[3], edges[5]),
    )


def _count(arrivals_s: Values, start_s: float, end_s: float) -> int:
    return int(((arrivals_s >= start_s) & (arrivals_s < end_s)).sum())


@check(
    "p99 of the lag (below 368 requests the highest percentile that they allow) / the median "
    "TTFT (latency without streaming), of the requests that didn't wait for `max_in_flight`: "
    "2 % is the smallest effect worth claiming, and at 10 % the client's lateness is part of the "
    "result",
    suspect=0.02,
    invalid=0.10,
    only=f", and > {SEND_LAG_FLOOR_MS:g} ms",
)
def send_lag(facts: Facts) -> Doubt | None:
    """Requests left the client later than they were meant to."""
    percentile = highest_allowed(int(facts.own_lag_ms.size))
    lag_ms = None if percentile is None else quantile(facts.own_lag_ms, percentile)
    what, base_ms = "TTFT", facts.ttft_p50_ms
    if base_ms is None:
        what, base_ms = "latency", facts.latency_p50_ms
    if lag_ms is None or not base_ms or lag_ms <= SEND_LAG_FLOOR_MS:
        return None
    return Doubt(
        f"send lag p{percentile:g} is {lag_ms:.1f} ms, {lag_ms / base_ms:.0%} of the median {what} "
        f"of {base_ms:.1f} ms",
        "give the client more CPU (stop other work, move it off the server's machine) or lower "
        f"{less_load(facts)}",
        lag_ms / base_ms,
    )


def less_load(facts: Facts) -> str:
    """Return the setting to lower so that server and client have less to do."""
    return "the request rate" if facts.load.is_open else "the concurrency"
