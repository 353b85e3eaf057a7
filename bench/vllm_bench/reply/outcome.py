"""From the raw facts of an exchange to the record of a request: strict success, or a named error.

Pure: what the sending process stamped goes in, one complete `RequestRecord`
comes out. Success is status 200, no error event, a finish_reason of GOOD_ENDS
for each choice, usage if it was asked for, at least one completion token, and
`[DONE]`; everything else has an `error_kind`.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..records.request_record import RequestRecord
from ..records.text import masked, printable
from .events import Usage, error_text
from .exchange import Exchange, Failure
from .reply import Reply

# A choice that ended by itself. vLLM has others, for one that didn't: abort, error, repetition.
GOOD_ENDS = ("stop", "length", "tool_calls", "function_call")
MOST_SHOWN = 600  # characters of a server's words in a file


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
    request_rate: float | None = None
    conversation_id: str | None = None
    turn: int | None = None
    prompt_tokens: int | None = None  # as the server itself counted them before the run


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request's record, and what its reply says about the server."""

    record: RequestRecord
    fingerprint: str | None
    model: str | None


def judge(exchange: Exchange, expected: Expectation, reply: Reply | None = None) -> Outcome:
    """Return the outcome of one exchange. Times measured before a failure are kept.

    `reply` has what was read of it so far; the exchange's own reads come after that.
    """
    reply = reply or Reply(stream=expected.stream)
    reply.feed(exchange.http_status, exchange.reads)
    if exchange.http_status == 200 and exchange.failure is None:
        reply.close(exchange.t_end_ns)
    failure = failure_of(exchange, reply, stream=expected.stream, choices=expected.choices)
    record = _record(exchange, expected, reply, failure)
    hide = expected.secrets
    return Outcome(record, _shown(reply.fingerprint, hide), _shown(reply.model, hide))


def failure_of(exchange: Exchange, reply: Reply, *, stream: bool, choices: int) -> Failure | None:
    """Return why an exchange that has ended, with this reply, is no success; None: it is one."""
    status = exchange.http_status
    if status is not None and status != 200:
        return _http_failure(reply, status)
    if reply.error:
        return reply.error
    return exchange.failure or _wrong_kind(exchange, stream=stream) or _unfinished(reply, choices)


def _http_failure(reply: Reply, status: int) -> Failure:
    try:
        words = error_text(orjson.loads(bytes(reply.body)))
    except orjson.JSONDecodeError:
        words = " ".join(bytes(reply.body)[:300].decode(errors="replace").split())
    text = f"HTTP {status}: {words}" if words else f"HTTP {status}"
    if status == 429:
        return Failure("http_429", text)
    if 400 <= status < 500:
        return Failure("http_4xx", text)
    return Failure("http_5xx" if status >= 500 else "protocol", text)


def _wrong_kind(exchange: Exchange, *, stream: bool) -> Failure | None:
    if exchange.content_encoding not in ("", "identity"):
        return Failure(
            "protocol", f"compressed reply ({exchange.content_encoding}) was not asked for"
        )
    if stream and not exchange.content_type.startswith("text/event-stream"):
        found = exchange.content_type or "no content type"
        return Failure("protocol", f"expected text/event-stream, got {found}")
    return None


def _unfinished(reply: Reply, choices: int) -> Failure | None:
    """Return why a reply that came whole is no success: how it ended, or what it lacks."""
    bad = [reason for reason in reply.finish_reasons.values() if reason not in GOOD_ENDS]
    if bad:
        text = f"the server ended the request: finish_reason {printable(bad[0], 60)}"
        return Failure("content_filter" if "content_filter" in bad else "bad_finish", text)
    if len(reply.finish_reasons) < choices:
        return Failure("truncated", "the stream ended without a finish_reason")
    if not reply.done:
        return Failure("truncated", "the stream ended without [DONE]")
    if reply.usage is None:
        return Failure("protocol", "no usage, though it was asked for")
    if reply.usage.completion_tokens < 1:
        return Failure("empty", "no completion token")
    return None


def _record(
    exchange: Exchange, expected: Expectation, reply: Reply, failure: Failure | None
) -> RequestRecord:
    sent_ns, end_ns = exchange.t_sent_ns, _end_ns(exchange, reply, failure)
    reads = sorted(set(reply.stamps))  # those that brought tokens
    ttft_ms = _ms(sent_ns, reply.stamps[0]) if reads else None
    latency_ms = _ms(sent_ns, end_ns)
    return RequestRecord(
        run_id=expected.run_id,
        scenario=expected.scenario,
        concurrency=expected.concurrency,
        request_rate=expected.request_rate,
        request_index=exchange.request_index,
        request_id=expected.request_id,
        prompt_id=expected.prompt_id,
        conversation_id=expected.conversation_id,
        turn=expected.turn,
        stream_index=exchange.stream_index,
        t_scheduled_s=(exchange.t_scheduled_ns - expected.start_ns) / 1e9,
        t_sent_s=None if sent_ns is None else (sent_ns - expected.start_ns) / 1e9,
        t_end_s=(end_ns - expected.start_ns) / 1e9,
        send_lag_ms=_ms(exchange.t_scheduled_ns, sent_ns),
        connect_ms=None if exchange.connect_ns is None else exchange.connect_ns / 1e6,
        ttft_ms=ttft_ms,
        ttft_visible_ms=_ms(sent_ns, reply.first_visible_ns),
        latency_ms=latency_ms,
        tpot_ms=_tpot_ms(ttft_ms, latency_ms, reply.usage),
        max_gap_ms=_max_gap_ms(reads),
        prompt_tokens_planned=expected.prompt_tokens,
        **_counts(reply),
        token_reads=len(reads),
        max_tokens=expected.max_tokens,
        http_status=exchange.http_status,
        finish_reason=_shown(reply.finish_reasons.get(0), expected.secrets),
        error_kind=failure.kind if failure else None,
        error=_shown(failure.text, expected.secrets) if failure else None,
    )


def _counts(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "token_events": len(reply.stamps),
        "visible_events": reply.visible_events,
    }


def _shown(text: str | None, secrets: tuple[str, ...]) -> str | None:
    """Return a server's words for a file: secrets masked first, since a cut would hide them."""
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


def _tpot_ms(ttft_ms: float | None, latency_ms: float | None, usage: Usage | None) -> float | None:
    if ttft_ms is None or latency_ms is None or usage is None or usage.completion_tokens < 2:
        return None
    return (latency_ms - ttft_ms) / (usage.completion_tokens - 1)


def _max_gap_ms(reads: Sequence[int]) -> float | None:
    longest_ns = max(map(operator.sub, itertools.islice(reads, 1, None), reads), default=None)
    return None if longest_ns is None else longest_ns / 1e6
