"""Doubts about the load: was it sent as asked, in time, and not all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..figures.digits import counted
from ..figures.facts import Facts
from ..figures.in_flight import busy_streams
from ..figures.throughput import arrival_rates
from ..figures.window import last_send_s
from ..records.request_record import TURNED_AWAY
from ..stats.distribution import floats, min_samples, quantile
from .advice import less_load
from .finding import Doubt, Setting, Severity, check
from .run_checks import CUT_SHORT

LAG_SUSPECT_MS, LAG_INVALID_MS = 2.0, 10.0  # a shift of a percentile that nobody acts on
NEAR = 0.05  # of a median latency: sends this close to each other are in step


@check(
    "closed loop: share of the streams' time spent waiting after the server had turned requests "
    "away; open loop: share of the requests that it turned away. As for `rate_shortfall`: that is "
    "load which the server didn't carry",
    suspect=0.01,
    invalid=0.05,
    silenced_by=CUT_SHORT,
)
def turned_away(facts: Facts) -> Doubt | None:
    """The server turned requests away (connection refused, 429, 502 to 504), and streams waited."""
    refused, waited_s = int(_refused(facts).sum()), float(facts.frame["waited_ms"].sum()) / 1000
    if not refused and not waited_s:
        return None
    words = f"{refused} of {counted(facts.rows, 'request')} were turned away"
    if facts.load.is_open:
        return Doubt(words, TAKE_FEWER, refused / facts.rows)
    share = waited_s / (facts.load.value * _span_s(facts))
    return Doubt(f"{words}, and streams waited for {share:.1%} of their time", TAKE_FEWER, share)


TAKE_FEWER = (
    "send what the server takes (its --max-num-seqs, a gateway's rate limit), or find out why it "
    "was away: figures are of the load that it let in"
)


def _refused(facts: Facts) -> NDArray[np.bool_]:
    """Return which requests got no reply at all, or one that says: not now."""
    status, kind = facts.frame["http_status"], facts.frame["error_kind"]
    nothing = ~facts.frame.has("http_status") & ((kind == "connect") | (kind == "truncated"))
    refused: NDArray[np.bool_] = nothing | np.isin(status, TURNED_AWAY)
    return refused


def _span_s(facts: Facts) -> float:
    """Return how long the streams were sending."""
    frame = facts.frame
    return float(frame["t_end_s"].max() - (frame["t_scheduled_s"] - frame["waited_ms"] / 1e3).min())


@check(
    "share of the load asked for that wasn't held (open loop: of the schedule's rate that wasn't "
    "sent): 1 % is half the smallest effect worth claiming, and above 5 % the run belongs to "
    "another level",
    suspect=0.01,
    invalid=0.05,
    silenced_by=CUT_SHORT,
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
        else "look for connections that were refused or reopened (connect_ms, waited_ms, errors), "
        "and give the client more CPU: what is sent late or never is load that the server didn't "
        "get",
        short,
    )


def _idle_streams(facts: Facts) -> Doubt | None:
    busy = _mean_busy_streams(facts)
    if busy is None:
        return None
    short = 1 - busy / facts.load.value
    figures = (
        f"{busy:.2f} of {facts.load.words} were busy while there was work, {100 * short:.1f} % "
        "fewer than asked"
    )
    why = _too_little_work(facts)
    if why is not None:
        most = Setting("num_requests", 10 * facts.load.value * _turns(facts))
        return Doubt(figures, f"{why}: {{set}}", short, sets=most)
    return Doubt(
        figures,
        "look for connections that were refused or reopened (connect_ms, waited_ms, errors), and "
        "give the client more CPU: while a stream waits for the client, the server gets less load",
        short,
    )


def _mean_busy_streams(facts: Facts) -> float | None:
    """Return the average number of busy streams in the window, where all of them had work."""
    until_s = last_send_s((facts.of or facts).frame)  # of all classes: they end together
    busy, window = busy_streams(facts.frame, until_s), facts.window
    if busy is None or facts.load.value <= 0:
        return None
    return busy.mean_between(window.start_s, window.end_s) if window else float(busy.peak)


def _turns(facts: Facts) -> int:
    """Return the turns of a conversation; 1: there are none."""
    talk = facts.setting("conversations")
    return (talk or {}).get("turns") or 1


def _too_little_work(facts: Facts) -> str | None:
    """Return why there was too little work for all streams; None: there was enough."""
    if facts.info is None or facts.info.num_requests >= facts.load.value * _turns(facts):
        return None
    each = _turns(facts)
    what = "requests" if each == 1 else f"conversations (num_requests / {each} turns)"
    return f"there were fewer {what} than streams"


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
    "open loop: the most by which the client's own lateness moved p50, p95 or p99 of the TTFT "
    "from the schedule (latency without streaming), of requests that didn't wait for "
    "`max_in_flight`: that TTFT includes the lag, so this is its error. In a closed loop the idle "
    "stream is part of `rate_shortfall`",
    suspect=0.02,
    invalid=0.10,
    only=(f", and > {LAG_SUSPECT_MS:g} ms", f", and > {LAG_INVALID_MS:g} ms"),
)
def send_lag(facts: Facts) -> Doubt | None:
    """Requests left the client later than they were meant to."""
    moved = _moved_by_lag(facts) if facts.load.is_open else None
    if moved is None or moved[1] <= LAG_SUSPECT_MS:
        return None
    percentile, moved_ms, share = moved
    return Doubt(
        f"late sends moved p{percentile:g} of times from the schedule by {moved_ms:.1f} ms, "
        f"{share:.0%} of the same from the send",
        "give the client more CPU (stop other work, move it off the server's machine) or lower "
        f"{less_load(facts)}",
        share,
        at_most=Severity.INVALID if moved_ms > LAG_INVALID_MS else Severity.SUSPECT,
    )


def _moved_by_lag(facts: Facts) -> tuple[float, float, float] | None:
    """Return the percentile that own lags moved most, by how many ms, and by which share."""
    rows = facts.frame.of(facts.measured & ~facts.waited_for_cap)
    time = "ttft_ms" if rows.has("ttft_ms").any() else "latency_ms"
    sent_ms, due_ms = floats(rows[time]), floats(rows[time] + rows["send_lag_ms"])
    found = []
    for percentile in (50.0, 95.0, 99.0):
        base_ms = quantile(sent_ms, percentile)
        if base_ms and due_ms.size >= min_samples(percentile):
            moved_ms = (quantile(due_ms, percentile) or 0.0) - base_ms
            found.append((percentile, moved_ms, moved_ms / base_ms))
    return max(found, key=lambda one: one[2], default=None)


@check(
    f"sends within {NEAR:.0%} of a median latency of each other / what streams at random would "
    "have: a stream in step waits for the prefills of all others, each time. Replies of different "
    "lengths fall out of step by themselves, equal ones don't",
    suspect=3.0,
    unit="times as many as by chance, with `start: together`",
    about=("TTFT",),
)
def start_burst(facts: Facts) -> Doubt | None:
    """Streams that started together still send together."""
    streams = facts.load.value
    if facts.load.is_open or streams < 2 or facts.plan("start") != "together":
        return None
    sent_s, latency_ms = np.sort(floats(facts.counted_rows["t_sent_s"])), facts.latency_p50_ms
    if sent_s.size < 10 * streams or not latency_ms:
        return None
    near_s = NEAR * latency_ms / 1000
    later, earlier = (np.searchsorted(sent_s, sent_s + by) for by in (near_s, -near_s))
    ratio = float((later - earlier - 1).mean()) / (2 * NEAR * streams)
    return Doubt(
        f"{ratio:.1f} times as many sends at the same time as by chance, long after the start",
        "set start: staggered, unless a thundering herd is what you want to measure",
        ratio,
    )
