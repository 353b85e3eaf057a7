"""Every quantity whose distribution a run has, named once: what it is, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..scenario.load import Load
from .facts import Facts
from .statistics import Values, Weights

Sample = tuple[Values, Weights | None]  # values, and how many samples each stands for (None: one)
NOTHING: Values = np.array([])

# What a user of the server feels is counted from when the request was meant to go. In a closed
# loop that is when its stream came free, and the lag is the client's own; in an open loop the
# wait is part of the answer.
FROM_SCHEDULE = {"ttft_ms": "ttft_from_schedule_ms", "latency_ms": "latency_from_schedule_ms"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity: its name (with the unit), a title for people, its meaning, its samples."""

    name: str
    title: str
    doc: str
    sample: Callable[[Facts], Sample]


def _column(name: str, title: str, doc: str) -> Metric:
    return Metric(name, title, doc, lambda facts: (facts.values(name), None))


def _itl(facts: Facts) -> Sample:
    reads = facts.reads
    return (NOTHING, None) if reads is None else (reads.itl_ms, reads.tokens_after_gap)


def _chunk_gaps(facts: Facts) -> Sample:
    return (NOTHING if facts.reads is None else facts.reads.chunk_gap_ms, None)


METRICS: tuple[Metric, ...] = (
    _column("ttft_ms", "TTFT", "time to first token, from the send"),
    Metric(
        "ttft_from_schedule_ms",
        "TTFT from schedule",
        "time to first token, from when the request was meant to go",
        lambda facts: (facts.values("ttft_from_schedule_ms"), None),
    ),
    _column("latency_ms", "latency", "latency, from the send to the event that ended the reply"),
    Metric(
        "latency_from_schedule_ms",
        "latency from schedule",
        "latency, from when the request was meant to go",
        lambda facts: (facts.values("latency_from_schedule_ms"), None),
    ),
    _column("tpot_ms", "TPOT", "time per output token after the first, a value a request"),
    Metric("itl_ms", "ITL", "gap between tokens, a value a token", _itl),
    Metric("chunk_gap_ms", "chunk gap", "wait between two reads that brought tokens", _chunk_gaps),
    _column("max_gap_ms", "worst gap", "a request's longest wait between two token reads"),
    Metric(
        "tokens_per_chunk",
        "tokens per chunk",
        "generated tokens by event that brought some, a value a request",
        lambda facts: (facts.tokens_per_chunk, None),
    ),
    Metric(
        "send_lag_ms",
        "send lag",
        "the client's own lateness, over every request that was sent",
        lambda facts: (facts.send_lag_ms, None),
    ),
    _column("prompt_tokens", "prompt tokens", "prompt tokens, by the server's count"),
    _column("completion_tokens", "output tokens", "generated tokens, by the server's count"),
)


def headline_metric(metric: str, load: Load) -> str:
    """Return the metric to judge a load by: in an open loop times count from the schedule."""
    return FROM_SCHEDULE.get(metric, metric) if load.is_open else metric


TITLES = {metric.name: metric.title for metric in METRICS}
DOCS = {metric.name: metric.doc for metric in METRICS}

STREAMED = (
    "ttft_ms",
    "ttft_from_schedule_ms",
    "tpot_ms",
    "itl_ms",
    "chunk_gap_ms",
    "max_gap_ms",
    "tokens_per_chunk",
)


def why_absent(facts: Facts, name: str) -> str:
    """Return why a metric has no value in a run."""
    if name == "send_lag_ms":
        return "no request was sent"
    if facts.succeeded.empty:
        return "no request succeeded"
    if name in STREAMED and not facts.streaming:
        return "stream: false, so a reply is one piece"
    if name in ("itl_ms", "chunk_gap_ms") and facts.reads is None and facts.reads_absent:
        return facts.reads_absent
    return {
        "tpot_ms": "no reply had two tokens",
        "itl_ms": "no reply came in two reads",
        "chunk_gap_ms": "no reply came in two reads",
        "max_gap_ms": "no reply came in two reads",
    }.get(name, "the rows have no such value")
