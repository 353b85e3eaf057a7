"""Whether a turn succeeded, and what was answered: read on the sending loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...reply.events import index_of, text_of
from ...reply.exchange import Exchange
from ...reply.outcome import close_with, failure_of
from ...reply.reply import Reply
from ...reply.sse import EventSplitter, may_be_json
from ...reply.words import read_json

TAIL_BYTES = 2048  # of a stream: how it ended, and its usage


def ended_well(exchange: Exchange, body: bytes, *, stream: bool, choices: int = 1) -> bool:
    """Whether a turn succeeded, by its row's rules.

    A long stream is judged by its end: what goes wrong before that ends it, without a
    finish_reason. Where the end isn't enough, all of it is read.
    """
    judged = (exchange, choices, stream)
    if stream and choices == 1 and len(body) > TAIL_BYTES and _is_well(_tail(body), *judged):
        return True
    return _is_well(body, *judged)


def _is_well(body: bytes, exchange: Exchange, choices: int, stream: bool) -> bool:
    reply = Reply(stream=stream)
    reply.feed(exchange.http_status, [(0, body)])
    close_with(reply, exchange)
    return failure_of(exchange, reply, stream=stream, choices=choices) is None


def _tail(body: bytes) -> bytes:
    """Return the last events of a stream, whole."""
    end = body[-TAIL_BYTES:]
    return end[end.find(b"\ndata:") + 1 :]


def answer_text(exchange: Exchange, body: bytes, *, stream: bool, choices: int = 1) -> str | None:
    """Return the visible text of a turn's answer, which may be empty; None: the turn failed.

    Reasoning isn't part of a chat's history: templates drop it from earlier turns.
    """
    if not _is_well(body, exchange, choices, stream):
        return None
    payloads = _payloads(exchange, body) if stream else [body]
    events = [read_json(payload) for payload in payloads if may_be_json(payload)]
    text = "".join(part for event in events for part in _parts(event, choices))
    # Halves of a surrogate pair may come in two events; one alone can't be sent back.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _payloads(exchange: Exchange, body: bytes) -> list[bytes]:
    splitter = EventSplitter()
    payloads = splitter.feed(body)
    return payloads if exchange.failure else payloads + splitter.end()


def _parts(event: Any, choices: int) -> Iterator[str]:
    for place, choice in enumerate(_choices(event)):
        said = choice.get("delta") or choice.get("message")
        # Of a single choice some servers give the number of the token as its index.
        if isinstance(said, dict) and (choices == 1 or index_of(choice, place) == 0):
            yield text_of(said)


def _choices(event: Any) -> Iterator[dict[str, Any]]:
    found = event.get("choices") if isinstance(event, dict) else None
    if isinstance(found, list):
        yield from (choice for choice in found if isinstance(choice, dict))
