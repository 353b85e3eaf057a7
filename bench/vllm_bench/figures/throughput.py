"""Throughput and arrival rates: in the steady window, and over the whole run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import BATCHES, MIN_BATCHES, Values
from ..stats.distribution import filled, floats
from ..stats.rate import Rate, alike
from .facts import Facts
from .in_flight import waiting_share
from .window import Window

RateMetric = Literal["output_tokens_per_s", "requests_per_s"]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Work of the successful requests in some time.

    A failed request's tokens don't count: otherwise a server that dies early would look fast.
    """

    span_s: float
    requests: float
    prompt_tokens: float
    output_tokens: float | None  # None: the tokens' stamps are not known

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.span_s

    @property
    def prompt_tokens_per_s(self) -> float:
        return self.prompt_tokens / self.span_s

    @property
    def output_tokens_per_s(self) -> float | None:
        return None if self.output_tokens is None else self.output_tokens / self.span_s

    @property
    def total_tokens_per_s(self) -> float | None:
        if self.output_tokens is None:
            return None
        return (self.prompt_tokens + self.output_tokens) / self.span_s


def throughput(facts: Facts) -> Throughput | None:
    """Return the whole run's throughput, ramp and drain included; None where nothing was sent."""
    if facts.span_s is None:
        return None
    return Throughput(
        span_s=facts.span_s,
        requests=len(facts.succeeded),
        prompt_tokens=facts.total("prompt_tokens"),
        output_tokens=facts.total("completion_tokens"),
    )


def window_throughput(facts: Facts, window: Window | None) -> Throughput | None:
    """Return the throughput in the steady window; None where there is none.

    A success and its prompt count by the share of its time that lies in the window: at an edge
    neither all of it nor nothing of it was done inside. Generated tokens count where their
    stamps lie; without stamps the output of a stream is unknown, and that of a reply in one piece
    counts as its request.
    """
    if window is None:
        return None
    rows = facts.succeeded
    shares = shares_inside(rows, window)
    return Throughput(
        span_s=window.length_s,
        requests=float(shares.sum()),
        prompt_tokens=_shared(rows["prompt_tokens"], shares),
        output_tokens=_output(facts, window),
    )


def _output(facts: Facts, window: Window) -> float | None:
    """Return the tokens generated in a window; None: a stream's, without stamps.

    Of classes each has its own way: one may be streamed, and the next not.
    """
    if facts.classes:
        of_each = [_output(part, window) for part in facts.classes.values()]
        known = [tokens for tokens in of_each if tokens is not None]
        return sum(known) if len(known) == len(of_each) else None
    if facts.reads is not None:
        return facts.reads.tokens_between(window.start_s, window.end_s)
    rows = facts.succeeded
    if _unstamped(facts):
        return None
    return _shared(rows["completion_tokens"], shares_inside(rows, window))


LATENCIES = 4  # mean ones, in a batch; the fewest batches there are may be half as long
FEWEST = 20  # requests, of which batches are made


def rate_window(facts: Facts, metric: RateMetric) -> Window | None:
    """Return the steady window where a rate is known in it; None: it is of the whole run."""
    return None if metric == "output_tokens_per_s" and _unstamped(facts) else facts.window


def _unstamped(facts: Facts) -> bool:
    """Whether a stream's tokens have no stamps: nobody knows when they came."""
    parts = facts.classes.values() or (facts,)
    return any(p.streaming and p.reads is None and len(p.succeeded) > 0 for p in parts)


def rate_of(facts: Facts, metric: RateMetric) -> Rate:
    """Return a rate of the steady window, or of the whole run, in batches of equal time.

    A batch is of several latencies: a reply's work is spread over its own time, so in shorter ones
    the same replies would be at work in neighbours, and batches would differ less than they
    should. A run that is too short for three of them is one part.
    """
    window = rate_window(facts, metric)
    span = window or facts.whole_run
    if span is None:
        return Rate((), ())
    edges = np.linspace(span.start_s, span.end_s, _parts(facts, window, span.length_s) + 1)
    spans_s = tuple(np.diff(edges).tolist())
    if window is None:  # nothing lies outside
        edges[[0, -1]] = -math.inf, math.inf
    parts = [Window(*edge) for edge in pairwise(edges.tolist())]
    done = _work(facts, metric, parts)
    work = done.sum(axis=0).tolist()
    if metric == "output_tokens_per_s" and not _unstamped(facts):
        work = [_output(facts, part) for part in parts]
    return Rate(tuple(work), spans_s, alike(done.sum(axis=1)))


def _work(facts: Facts, metric: RateMetric, parts: Sequence[Window]) -> Values:
    """Return what each success (a row) did in each part (a column)."""
    rows = facts.succeeded
    shares = np.column_stack([shares_inside(rows, part) for part in parts])
    if metric == "output_tokens_per_s":
        shares *= np.nan_to_num(rows["completion_tokens"])[:, np.newaxis]
    return shares


def _parts(facts: Facts, window: Window | None, length_s: float) -> int:
    """Return in how many batches a time of this length can be cut."""
    latency_ms = facts.values("latency_ms")
    if window is None or not latency_ms.size:
        return 1  # a whole run's start and drain would make its batches differ
    latencies = 1000 * length_s / max(float(latency_ms.mean()), 1e-6)
    if len(facts.counted_rows) < FEWEST or latencies < MIN_BATCHES * LATENCIES / 2:
        return 1
    return int(min(max(latencies / LATENCIES, MIN_BATCHES), BATCHES))


def shares_inside(rows: Rows, window: Window) -> Values:
    """Return which share of each request's time, from t_sent to t_end, lies in the window."""
    return window.shares(filled(rows["t_sent_s"], rows["t_end_s"]), rows["t_end_s"])


def _shared(tokens: NDArray[Any], shares: Values) -> float:
    return float(np.nan_to_num(tokens) @ shares)


OUTPUT_WEIGHT = 2.0  # of an output token, where a prompt token has 1 (VTC, OSDI'24)
Promise = Literal["share", "streams"]


@dataclass(frozen=True, slots=True)
class Service:
    """What a class of users got of the server in the steady window."""

    tokens: float  # prompt tokens that no cache had, and twice the output tokens: of successes
    promise: Promise  # what its weight is of: arrivals (streams) of all, or streams of its own
    weight: float
    # Of the window: when a request of it was in flight without its first token; None: not streamed.
    waiting: float | None


def service(facts: Facts) -> Service | None:
    """Return what a class got; None where there is no window, or it isn't known what it asked for.

    Of a reply that doesn't say how much of its prompt was cached, all of it counts as fresh.
    """
    done, window = window_throughput(facts, facts.window), facts.window
    asked = (facts.of.setting("classes") or {}).get(facts.class_name) if facts.of else None
    if done is None or window is None or done.output_tokens is None or not asked:
        return None
    promise: Promise = "share" if asked.get("share") else "streams"
    if not asked.get(promise):
        return None
    rows = facts.succeeded
    cached = _shared(rows["cached_tokens"], shares_inside(rows, window))
    return Service(
        tokens=done.prompt_tokens - cached + OUTPUT_WEIGHT * done.output_tokens,
        promise=promise,
        weight=float(asked[promise]),
        waiting=waiting_share(facts.frame, window) if facts.streaming else None,
    )


@dataclass(frozen=True, slots=True)
class ArrivalRates:
    """Requests per second over the measured arrivals: number of gaps / the time that they take."""

    scheduled: float
    sent: float


def arrival_rates(frame: Rows) -> ArrivalRates | None:
    """Return both rates; None where fewer than two requests were sent, or all at once.

    A request that was cancelled before its send is no shortfall: the run was stopped.
    """
    meant = frame.of(frame.has("t_sent_s") | (frame["error_kind"] != "cancelled"))
    scheduled = _arrivals_per_s(floats(meant["t_scheduled_s"]))
    sent = _arrivals_per_s(floats(meant["t_sent_s"]))
    return None if scheduled is None or sent is None else ArrivalRates(scheduled, sent)


def _arrivals_per_s(times_s: Values) -> float | None:
    if times_s.size < 2 or times_s.max() <= times_s.min():
        return None
    return float((times_s.size - 1) / (times_s.max() - times_s.min()))
