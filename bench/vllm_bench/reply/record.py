"""From what came of a request, and whether it failed, to its row. Pure."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..records.request_record import RequestRecord, WaitKind
from ..records.text import masked
from ..scenario.forms.answer_form import AnswerForm
from .exchange import Exchange, Failure
from .reply import Reply

MOST_SHOWN = 500  # characters of an error in a row


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known of a request before its reply: its identity, what the reply must have."""

    run_id: str
    scenario: str
    concurrency: int | None
    request_id: str
    prompt_id: str
    max_tokens: int
    choices: int
    stream: bool
    start_ns: int  # the run's start, from which the record's times count
    secrets: tuple[str, ...] = ()  # masked if the server echoes them
    class_: str | None = None
    machine: str | None = None  # that sends it, where several do
    request_rate: float | None = None
    conversation_id: str | None = None
    turn: int | None = None
    session_turns: int | None = None
    agent: str | None = None
    after: str | None = None  # the turns that it waited for
    planned_wait_s: float | None = None
    wait_kind: WaitKind | None = None
    prompt_tokens: int | None = None  # as the server itself counted them before the run
    trace_id: str | None = None
    possible_cached_tokens: int | None = None  # see traces/possible.py
    exact_tokens: bool = False  # of a response: max_tokens, since nothing else may end it
    keep_text: bool = False  # the answer's text will be asked for (`Reply.text`)
    form: AnswerForm | None = None  # that the answer should have; None: any


# What a row takes over from what was known before.
IDENTITY = (
    *("run_id", "scenario", "class_", "machine", "concurrency", "request_rate"),
    *("request_id", "trace_id", "prompt_id", "conversation_id", "turn", "session_turns"),
    *("agent", "after", "planned_wait_s", "wait_kind", "possible_cached_tokens"),
)


def record_of(
    exchange: Exchange, expected: Expectation, reply: Reply, failure: Failure | None
) -> RequestRecord:
    """Return the row of a request. Raises ValueError where its exchange hasn't ended."""
    sent_ns, end_ns = exchange.t_sent_ns, _end_ns(exchange, reply, failure)
    reads = sorted(set(reply.stamps))  # those that brought tokens
    ttft_ms = _ms(sent_ns, reply.stamps[0]) if reads else None
    latency_ms = _ms(sent_ns, end_ns)
    return RequestRecord(
        **{name: getattr(expected, name) for name in IDENTITY},
        request_index=exchange.request_index,
        stream_index=exchange.stream_index,
        t_scheduled_s=(exchange.t_scheduled_ns - expected.start_ns) / 1e9,
        t_sent_s=None if sent_ns is None else (sent_ns - expected.start_ns) / 1e9,
        t_end_s=(end_ns - expected.start_ns) / 1e9,
        send_lag_ms=_ms(exchange.t_scheduled_ns, sent_ns),
        waited_ms=exchange.waited_ns / 1e6,
        connect_ms=None if exchange.connect_ns is None else exchange.connect_ns / 1e6,
        resent=exchange.resent,
        ttft_ms=ttft_ms,
        # Where thoughts came within the text, nobody can tell where the answer began.
        ttfa_ms=_ms(sent_ns, None if reply.thoughts == "content" else reply.first_visible_ns),
        latency_ms=latency_ms,
        tpot_ms=_tpot_ms(ttft_ms, latency_ms, _timed_tokens(reply, expected.choices)),
        max_gap_ms=_max_gap_ms(reads),
        prompt_tokens_planned=expected.prompt_tokens,
        **_counts(reply),
        token_reads=len(reads),
        answer_valid=None if failure else _valid(expected.form, reply),
        max_tokens=expected.max_tokens,
        http_status=exchange.http_status,
        finish_reason=shown(next(iter(reply.finish_reasons.values()), None), expected.secrets),
        error_kind=failure.kind if failure else None,
        error=shown(failure.text, expected.secrets) if failure else None,
    )


def _counts(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": reply.completion_tokens,
        "cached_tokens": usage.cached_tokens if usage else None,
        "thoughts": reply.thoughts,
        "thinking_tokens": reply.thinking_tokens,
        "token_events": len(reply.stamps),
        "visible_events": reply.visible_events,
    }


def _timed_tokens(reply: Reply, choices: int) -> float | None:
    """Return the tokens of a choice, the mean of several, from the first stamp on.

    Hidden thoughts were generated before it.
    """
    tokens, thought = reply.completion_tokens, reply.thinking_tokens
    hidden = reply.thoughts == "hidden" and tokens is not None and thought is not None
    timed = tokens - thought if hidden and tokens and thought else tokens
    return None if timed is None else timed / choices


def _valid(form: AnswerForm | None, reply: Reply) -> int | None:
    """Return whether an answer has its form, as 1 or 0; None: it has none, or calls a tool."""
    text = reply.text
    if form is None or text is None or "tool_calls" in reply.finish_reasons.values():
        return None
    return int(not reply.text_cut and form.holds(text))


def shown(text: str | None, secrets: tuple[str, ...]) -> str | None:
    """Return a server's words for a file: cut after secrets are masked, so that none is halved."""
    return None if text is None else masked(text, secrets)[:MOST_SHOWN]


def _end_ns(exchange: Exchange, reply: Reply, failure: Failure | None) -> int:
    """Return the stamp of the finish event, or of the last token if later; a failure's moment."""
    if failure is None and reply.finish_ns is not None:
        return max([reply.finish_ns, *reply.stamps[-1:]])
    if exchange.t_end_ns is None:
        raise ValueError(f"request {exchange.request_index} was judged before it ended")
    return exchange.t_end_ns


def _ms(from_ns: int | None, to_ns: int | None) -> float | None:
    return None if from_ns is None or to_ns is None else (to_ns - from_ns) / 1e6


def _tpot_ms(ttft_ms: float | None, latency_ms: float | None, tokens: float | None) -> float | None:
    if ttft_ms is None or latency_ms is None or tokens is None or tokens < 2:
        return None
    return (latency_ms - ttft_ms) / (tokens - 1)


def _max_gap_ms(reads: Sequence[int]) -> float | None:
    longest_ns = max(map(operator.sub, itertools.islice(reads, 1, None), reads), default=None)
    return None if longest_ns is None else longest_ns / 1e6
