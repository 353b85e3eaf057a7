"""Throughput and arrival rates: in the steady window, and over the whole run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .facts import Facts
from .statistics import Values, floats
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
    """Return the throughput in the steady window, by stamps; None where there is no window.

    A generated token counts where its stamp lies, a request where it ended, and its prompt where
    its first token came: the prompt had been read by then. Without tokens' stamps the
    output is unknown, except for replies in one piece, whose tokens all came at their end.
    """
    if window is None:
        return None
    rows = facts.succeeded
    ended_s = rows["t_end_s"].to_numpy(dtype="float64")
    first_ms = rows["ttft_ms"].fillna(rows["latency_ms"]).to_numpy(dtype="float64", na_value=np.nan)
    read_s = rows["t_sent_s"].to_numpy(dtype="float64", na_value=np.nan) + first_ms / 1000
    if facts.reads is not None:
        output: float | None = facts.reads.tokens_between(window.start_s, window.end_s)
    else:
        output = None if facts.streaming else _tokens_in(rows["completion_tokens"], ended_s, window)
    return Throughput(
        span_s=window.length_s,
        requests=int(window.holds(ended_s).sum()),
        prompt_tokens=_tokens_in(rows["prompt_tokens"], read_s, window),
        output_tokens=output,
    )


def _tokens_in(tokens: pd.Series[float], at_s: Values, window: Window) -> float:
    """Return the tokens that came at a moment in the window; `at_s` has one for each row."""
    return float(tokens.to_numpy(dtype="float64", na_value=0.0)[window.holds(at_s)].sum())


@dataclass(frozen=True, slots=True)
class ArrivalRates:
    """Requests per second over the measured arrivals: number of gaps / the time that they take."""

    scheduled: float
    sent: float


def arrival_rates(frame: pd.DataFrame) -> ArrivalRates | None:
    """Return both rates; None where fewer than two requests were sent, or all at once.

    A request that was cancelled before its send is no shortfall: the run was stopped.
    """
    meant = frame[frame["t_sent_s"].notna() | (frame["error_kind"] != "cancelled").fillna(True)]
    scheduled = _arrivals_per_s(floats(meant["t_scheduled_s"]))
    sent = _arrivals_per_s(floats(meant["t_sent_s"]))
    return None if scheduled is None or sent is None else ArrivalRates(scheduled, sent)


def _arrivals_per_s(times_s: Values) -> float | None:
    if times_s.size < 2 or times_s.max() <= times_s.min():
        return None
    return float((times_s.size - 1) / (times_s.max() - times_s.min()))
