"""Throughput and arrival rates: in the steady window, and over the whole run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import Values
from ..stats.distribution import filled, floats
from .facts import Facts
from .window import Window


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
    if facts.reads is not None:
        output: float | None = facts.reads.tokens_between(window.start_s, window.end_s)
    else:
        output = None if facts.streaming else _shared(rows["completion_tokens"], shares)
    return Throughput(
        span_s=window.length_s,
        requests=float(shares.sum()),
        prompt_tokens=_shared(rows["prompt_tokens"], shares),
        output_tokens=output,
    )


def shares_inside(rows: Rows, window: Window) -> Values:
    """Return which share of each request's time, from t_sent to t_end, lies in the window."""
    return window.shares(filled(rows["t_sent_s"], rows["t_end_s"]), rows["t_end_s"])


def _shared(tokens: NDArray[Any], shares: Values) -> float:
    return float(np.nan_to_num(tokens) @ shares)


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
