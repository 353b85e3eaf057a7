"""Every quantity whose distribution a run has, named once: what it is, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scenario.load import Load
from ..stats.distribution import Sample
from .facts import Facts
from .jobs.jobs import JOB_TIMES
from .thoughts.thinking import answer_tpot_ms, answered, thinking_s

NOTHING = Sample(np.array([]))

# A user's wait counts from when the request was meant to go. In a closed loop that is when its
# stream came free, and the lag is the client's own; in an open loop the wait is part of the result.
FROM_SCHEDULE = {
    "ttft_ms": "ttft_from_schedule_ms",
    "ttfa_ms": "ttfa_from_schedule_ms",
    "latency_ms": "latency_from_schedule_ms",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity: its name (with the unit), a title for people, its meaning, its samples."""

    name: str
    title: str
    doc: str
    own_sample: Callable[[Facts], Sample] | None = None  # None: the column of this name

    def sample(self, facts: Facts) -> Sample:
        """Return its values over the counted successes of a run."""
        if self.own_sample is not None:
            return self.own_sample(facts)
        return _of_rows(facts, facts.times(self.name), facts.measured)


def _of_rows(facts: Facts, column: NDArray[Any], rows: NDArray[np.bool_]) -> Sample:
    """Return the values that some rows have of a column, which has one for each row."""
    known = rows & ~np.isnan(column)
    return Sample(column[known].astype(np.float64), None, facts.batches[known])


def _itl(facts: Facts) -> Sample:
    reads = facts.counted_reads
    if reads is None:
        return NOTHING
    return Sample(reads.itl_ms, reads.tokens_after_gap, facts.batch_of(reads.gap_owner))


def _chunk_gaps(facts: Facts) -> Sample:
    reads = facts.counted_reads
    if reads is None:
        return NOTHING
    return Sample(reads.chunk_gap_ms, None, facts.batch_of(reads.gap_owner))


def _tokens_per_chunk(facts: Facts) -> Sample:
    events = facts.frame["token_events"]
    chunks = facts.frame["completion_tokens"] / np.maximum(events, 1)
    return _of_rows(facts, chunks, facts.measured & (events > 0))


def _thinking_tokens(facts: Facts) -> Sample:
    thought = facts.measured & facts.frame.has("thoughts")
    return _of_rows(facts, facts.frame["thinking_tokens"].astype(np.float64), thought)


def _job(name: str) -> Callable[[Facts], Sample]:
    return lambda facts: _of_rows(facts, facts.times(name), facts.counted)


METRICS: tuple[Metric, ...] = (
    Metric("ttft_ms", "TTFT", "time to first token, from the send"),
    Metric(
        "ttft_from_schedule_ms",
        "TTFT from schedule",
        "time to first token, from when the request was meant to go",
    ),
    Metric(
        "ttfa_ms", "TTFA", "time to the first token of the answer, thoughts over, from the send"
    ),
    Metric(
        "ttfa_from_schedule_ms",
        "TTFA from schedule",
        "time to the first token of the answer, from when the request was meant to go",
    ),
    Metric(
        "thinking_s",
        "thinking",
        "time from the first token to the first of the answer, of replies with thoughts",
        lambda facts: _of_rows(facts, thinking_s(facts.frame), facts.measured),
    ),
    Metric("thinking_tokens", "thinking tokens", "tokens of replies' thoughts", _thinking_tokens),
    Metric(
        "answer_tpot_ms",
        "answer TPOT",
        "time per token of an answer after its first, of replies with thoughts",
        # Of several choices one may answer while another still thinks.
        lambda facts: _of_rows(
            facts, answer_tpot_ms(facts.frame), facts.measured & (facts.choices == 1)
        ),
    ),
    Metric("latency_ms", "latency", "latency, from the send to the event that ended the reply"),
    Metric(
        "latency_from_schedule_ms",
        "latency from schedule",
        "latency, from when the request was meant to go",
    ),
    Metric("tpot_ms", "TPOT", "time per output token after the first, one value per request"),
    Metric("itl_ms", "ITL", "gap between tokens, one value per token", _itl),
    Metric("chunk_gap_ms", "chunk gap", "wait between two reads that brought tokens", _chunk_gaps),
    Metric("max_gap_ms", "worst gap", "a request's longest wait between two token reads"),
    Metric(
        "tokens_per_chunk",
        "tokens per chunk",
        "generated tokens per event that brought some, one value per request",
        _tokens_per_chunk,
    ),
    Metric(
        "send_lag_ms",
        "send lag",
        "the client's own lateness, over the counted requests, failures too",
        lambda facts: _of_rows(facts, facts.frame["send_lag_ms"], facts.counted),
    ),
    Metric("job_s", "job", "a session's first send to the end of its last turn", _job("job_s")),
    Metric(
        "job_wait_s",
        "job's waits",
        "tools and people on the path that decided a job's time, as planned",
        _job("job_wait_s"),
    ),
    Metric("job_served_s", "job without waits", "the server's part of a job", _job("job_served_s")),
    Metric("prompt_tokens", "prompt tokens", "prompt tokens, by the server's count"),
    Metric("completion_tokens", "output tokens", "generated tokens, by the server's count"),
)
TITLES = {metric.name: metric.title for metric in METRICS}
DOCS = {metric.name: metric.doc for metric in METRICS}

NO_VALUE = "no counted request that succeeded has such a value"
NO_SESSIONS = "no request was a turn of a session"
NO_JOB = "no session ended whole, with its last turn in the window"
NO_THOUGHTS, NO_ANSWER = "no reply had thoughts", "no reply came to an answer"
IN_CONTENT = "thoughts came within the text, so nobody can tell where answers began"
OF_ANSWERS = ("ttfa_ms", "ttfa_from_schedule_ms")
OF_THOUGHTS = ("thinking_s", "thinking_tokens", "answer_tpot_ms")
STREAMED = {  # only streamed replies have these: why some of those have none either
    "ttft_ms": NO_VALUE,
    "ttft_from_schedule_ms": NO_VALUE,
    "ttfa_ms": NO_VALUE,
    "ttfa_from_schedule_ms": NO_VALUE,
    "tpot_ms": "no reply had two tokens",
    "itl_ms": "no reply came in two reads",
    "chunk_gap_ms": "no reply came in two reads",
    "max_gap_ms": "no reply came in two reads",
    "tokens_per_chunk": NO_VALUE,
}
NO_SUCCESS, NOT_STREAMED = "no request succeeded", "stream: false, so a reply is one piece"
IN_A_CELL = {  # the same in a word or two, where a figure would stand
    NO_SUCCESS: "no success",
    NOT_STREAMED: "not streamed",
    STREAMED["tpot_ms"]: "one token",
    STREAMED["itl_ms"]: "one read",
    NO_VALUE: "no value",
    NO_THOUGHTS: "no thoughts",
    NO_ANSWER: "no answer",
    NO_SESSIONS: "no sessions",
    NO_JOB: "no whole job",
    IN_CONTENT: "in the text",
}


def headline_metric(metric: str, load: Load) -> str:
    """Return the metric that a load is judged by: in an open loop, times from the schedule."""
    return FROM_SCHEDULE.get(metric, metric) if load.is_open else metric


def that_apply(metrics: Sequence[str], *, thought: bool) -> list[str]:
    """Return metrics without TTFA where no reply thought: it is TTFT then."""
    return [metric for metric in metrics if thought or metric != "ttfa_ms"]


def why_absent(facts: Facts, name: str) -> str:
    """Return why a metric has no value in a run."""
    if name == "send_lag_ms":
        return "no request was sent"
    if not len(facts.succeeded) or name in JOB_TIMES:
        no_job = NO_SESSIONS if facts.jobs is None else NO_JOB
        return no_job if name in JOB_TIMES else NO_SUCCESS
    no_thoughts = not facts.succeeded.has("thoughts").any()
    if name in (*STREAMED, *OF_THOUGHTS) and not facts.streaming:
        return NO_THOUGHTS if name in OF_THOUGHTS and no_thoughts else NOT_STREAMED
    if name in ("itl_ms", "chunk_gap_ms") and facts.reads is None and facts.reads_absent:
        return facts.reads_absent
    if name in OF_ANSWERS:
        return IN_CONTENT if answered(facts.succeeded).any() else NO_ANSWER
    return NO_THOUGHTS if name in OF_THOUGHTS and no_thoughts else STREAMED.get(name, NO_VALUE)
