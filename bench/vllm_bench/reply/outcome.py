"""From the raw facts of an exchange to the record of a request: strict success, or a named error.

Pure: what the sending process stamped goes in, one complete `RequestRecord`
comes out. Success is status 200, no error event, a finish_reason of GOOD_ENDS
for each choice, usage if it was asked for, at least one completion token, and
`[DONE]`; everything else has an `error_kind`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..records.request_record import RequestRecord
from ..records.text import printable
from .events import GOOD_ENDS, error_event, read_event
from .exchange import Exchange, Failure
from .record import Expectation, record_of, shown
from .reply import Reply
from .said.event import EventError, StreamEvent
from .words import words_of

__all__ = ["GOOD_ENDS", "Expectation", "Outcome", "close_with", "failure_of", "judge", "reply_to"]

# After [DONE] these are no failures: the stream is whole, and its server only didn't hang up.
AFTER_THE_END = ("timeout_stall", "truncated")


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
    reply = reply or reply_to(expected)
    reply.feed(exchange.http_status, exchange.reads)
    close_with(reply, exchange)
    failure = failure_of(exchange, reply, stream=expected.stream, choices=expected.choices)
    failure = failure or _stopped_early(reply, expected)
    record, hide = record_of(exchange, expected, reply, failure), expected.secrets
    return Outcome(record, shown(reply.fingerprint, hide), shown(reply.model, hide))


def reply_to(expected: Expectation) -> Reply:
    """Return the reply that a request gets, before anything of it has come."""
    asked = expected.max_tokens * expected.choices
    return Reply(stream=expected.stream, asked=asked, keep_text=expected.keep_text)


def close_with(reply: Reply, exchange: Exchange) -> None:
    """Tell a reply that all of it was read, unless it broke off."""
    if exchange.http_status == 200 and exchange.failure is None:
        reply.close(exchange.t_end_ns)


def failure_of(exchange: Exchange, reply: Reply, *, stream: bool, choices: int) -> Failure | None:
    """Return why an exchange that has ended, with this reply, is no success; None: it is one."""
    status = exchange.http_status
    if status is not None and status != 200:
        return _http_failure(exchange, reply, status)
    told = reply.error or reply.excess
    if told:
        return told
    broken = exchange.failure
    if broken and not (stream and reply.done and broken.kind in AFTER_THE_END):
        return _with_words(broken, reply)
    failure = _wrong_kind(exchange, reply, stream=stream) or _unfinished(exchange, reply, choices)
    return _with_words(failure, reply) if failure else None


def _stopped_early(reply: Reply, expected: Expectation) -> Failure | None:
    """Return that a response which calls itself completed isn't, by its length.

    A vLLM that gets SIGTERM ends /v1/responses so: nothing else in it tells.
    """
    made = reply.completion_tokens or 0
    if not expected.exact_tokens or made >= expected.max_tokens or reply.ended_by_limit:
        return None
    text = f"called completed after {made} of {expected.max_tokens} tokens, in spite of ignore_eos"
    return Failure("truncated", text)


# The two names of one limit, and how a server says that it doesn't take the one that was sent.
LIMITS = ("max_completion_tokens", "max_tokens")
REFUSED = re.compile(r"support|extra|permit|unrecogni|unknown", re.IGNORECASE)


def _limit_advice(status: int, words: str) -> str:
    """Return which key to set where a server wants another field for the most tokens.

    OpenAI's reasoning models: "Unsupported parameter: 'max_tokens' is not supported with this
    model. Use 'max_completion_tokens' instead."
    """
    refused = status in (400, 422) and re.search(REFUSED, words)
    named = [name for name in LIMITS if re.search(rf"\b{name}\b", words)]
    if not refused or not named:
        return ""
    wanted = re.search(r"\buse '?\"?(max_completion_tokens|max_tokens)", words, re.IGNORECASE)
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
    key = wanted[1] if wanted else other[named[0]]
    return f"set max_tokens_field: {key} in the scenario"


def _http_failure(exchange: Exchange, reply: Reply, status: int) -> Failure:
    words = words_of(reply.body)
    advice = _limit_advice(status, words)
    words += f" ({advice})" if advice else ""
    where = f"to {exchange.location}" if exchange.location else ""
    text = ": ".join(part for part in (f"HTTP {status}", where, words) if part)
    if status == 429:
        return Failure("http_429", text)
    if 400 <= status < 500:
        return Failure("http_4xx", text)
    return Failure("http_5xx" if status >= 500 else "protocol", text)


def _with_words(failure: Failure, reply: Reply) -> Failure:
    """Return a failure with what the server said where a completion was expected, if it did.

    An error in such words is one, though it isn't told as a stream tells it.
    """
    said = reply.bare
    if not said and not reply.words:
        return failure
    try:
        event = read_event(said)
    except EventError:
        event = StreamEvent()
    if event.error is not None:
        return error_event(event.error, event.error_code)
    return Failure(
        failure.kind, f"{failure.text}; the server said: {words_of(said) or reply.words}"
    )


def _wrong_kind(exchange: Exchange, reply: Reply, *, stream: bool) -> Failure | None:
    if exchange.content_encoding not in ("", "identity"):
        return Failure(
            "protocol", f"compressed reply ({exchange.content_encoding}) was not asked for"
        )
    unnamed = not exchange.content_type and reply.done
    if stream and not unnamed and not exchange.content_type.startswith("text/event-stream"):
        found = exchange.content_type or "no content type"
        return Failure("protocol", f"expected text/event-stream, got {found}")
    return None


def _unfinished(exchange: Exchange, reply: Reply, choices: int) -> Failure | None:
    """Return why a reply that came whole is no success: how it ended, or what it lacks."""
    bad = [reason for reason in reply.finish_reasons.values() if reason not in GOOD_ENDS]
    if bad:
        text = f"the server ended the request: finish_reason {printable(bad[0])}"
        return Failure("content_filter" if "content_filter" in bad else "bad_finish", text)
    if len(reply.finish_reasons) < choices:
        return Failure("truncated", "the stream ended without a finish_reason")
    # Some servers never send it; then the end that HTTP marks shows that nothing is missing.
    if not reply.done and not exchange.framed:
        return Failure("truncated", "the stream ended without [DONE]")
    return _uncounted(reply)


def _uncounted(reply: Reply) -> Failure | None:
    if reply.bad_usage is not None:
        return reply.bad_usage
    if reply.completion_tokens is None:
        return Failure("protocol", "no usage, though it was asked for")
    return Failure("empty", "no completion token") if reply.completion_tokens < 1 else None
