"""Doubts about the load: was it held, for long enough, and sent on time."""

from __future__ import annotations

import math

from . import thresholds
from .facts import Facts
from .finding import Finding, Severity
from .in_flight import busy_streams
from .statistics import floats, highest_allowed, quantile


def window_short(facts: Facts) -> Finding | None:
    """The steady window is too short for what happened in it to be typical."""
    length_s = facts.span_s if facts.window is None else facts.window.length_s
    if length_s is None or facts.latency_p50_ms is None:
        return None
    latencies_s = thresholds.MIN_WINDOW_LATENCIES * facts.latency_p50_ms / 1000
    needed_s = max(thresholds.MIN_WINDOW_S, latencies_s)
    if length_s >= needed_s:
        return None
    return Finding(
        "window_short",
        Severity.SUSPECT,
        f"the load of {facts.load.words} was held for {length_s:.1f} s; {needed_s:.0f} s are "
        "needed for a single hiccup not to weigh on the figures",
        f"fine for a smoke test; to measure, set num_requests to about "
        f"{_two_digits_up(facts.rows * needed_s / length_s)} for this level",
    )


def _two_digits_up(number: float) -> int:
    """Return the number, rounded up to two digits that matter."""
    step = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / step) * step


def send_lag(facts: Facts) -> Finding | None:
    """Requests left the client later than they should have."""
    percentile = highest_allowed(int(facts.send_lag_ms.size))
    lag = None if percentile is None else quantile(facts.send_lag_ms, percentile)
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
        f"send lag p{percentile:g} is {lag:.1f} ms, {lag / base:.0%} of the median {what} of "
        f"{base:.1f} ms",
        "give the client more CPU (stop other work, move it off the server's machine) or lower "
        "the concurrency",
    )


def rate_shortfall(facts: Facts) -> Finding | None:
    """Less load was held than the scenario asked for."""
    held = _held(facts)
    if held is None:
        return None
    short = 1 - held / facts.load.value
    severity = thresholds.RATE_SHORTFALL.severity(short)
    if severity is None:
        return None
    too_few = facts.info is not None and facts.info.num_requests < facts.load.value
    return Finding(
        "rate_shortfall",
        severity,
        f"{held:.2f} of {facts.load.words} were busy while there was work, {100 * short:.1f} % "
        "fewer than asked",
        "num_requests is below the number of streams: send at least ten times as many"
        if too_few
        else "look for connections that were refused or reopened (connect_ms, errors), and give "
        "the client more CPU: a stream that waits for the client is load that the server missed",
    )


def _held(facts: Facts) -> float | None:
    """Return the streams that were busy on average, from all of them on to the last send."""
    busy, window = busy_streams(facts.frame), facts.window
    if busy is None or facts.load.value <= 0:
        return None
    # Once the last request is sent a stream that is done has nothing left to take.
    last_sent_s = float(facts.frame["t_sent_s"].max())
    if window is None or last_sent_s <= window.start_s:
        return float(busy.peak)
    return busy.mean_between(window.start_s, last_sent_s)


def not_stationary(facts: Facts) -> Finding | None:
    """More was offered than served: the queue grew for as long as the run lasted."""
    sent = floats(facts.frame["t_sent_s"])
    if facts.flight is None or sent.size == 0 or sent.max() <= sent.min():
        return None
    start_s, sixth_s = float(sent.min()), float(sent.max() - sent.min()) / 6
    # The first third is left out: there the queue fills at any load.
    middle, late = (
        facts.flight.mean_between(start_s + a * sixth_s, start_s + (a + 2) * sixth_s)
        for a in (2, 4)
    )
    between = (sent >= start_s + 3 * sixth_s) & (sent < start_s + 5 * sixth_s)
    arrivals, grown = int(between.sum()), late - middle
    if arrivals < thresholds.MIN_ARRIVALS or grown <= thresholds.QUEUE_NOISE * math.sqrt(middle):
        return None
    severity = thresholds.NOT_STATIONARY.severity(grown / arrivals)
    if severity is None:
        return None
    return Finding(
        "not_stationary",
        severity,
        f"requests in flight grew from {middle:.1f} in the middle third of the run to {late:.1f} "
        f"in the last: {100 * grown / arrivals:.0f} % of the arrivals only lengthened the queue",
        "there is no steady state to measure: offer less, or report this rate as one that the "
        "server doesn't sustain; latencies here depend on how long the run was",
    )
