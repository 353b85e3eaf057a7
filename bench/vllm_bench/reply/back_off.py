"""How long a stream waits before it sends again, when the server has turned its request away.

Without a wait, a server that is away for two seconds would burn a whole plan in milliseconds.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime

from ..records.request_record import TURNED_AWAY
from .events import read_event
from .exchange import Exchange
from .said.event import EventError
from .sse import EventSplitter

FIRST_S = 0.1  # the longest first wait; each further one may be twice as long
# A stream that stands still for longer holds no load, whatever the server asks for.
MOST_S = 5.0
SHORT_BYTES = 8192  # a reply of an error alone isn't longer, its head included


def wait_s(exchange: Exchange, times: int) -> float:
    """Return the wait after a request that was turned away, the `times`th in a row.

    It is what the server asks for, else a growing one with a jitter that is the request's own.
    """
    asked_s = asked_wait_s(exchange.retry_after, time.time())
    if asked_s > 0:
        return min(asked_s, MOST_S)
    longest_s = min(FIRST_S * 2.0 ** min(times - 1, 10), MOST_S)
    return longest_s * random.Random(exchange.request_index).uniform(0.5, 1.0)


def asked_wait_s(retry_after: str, now_s: float) -> float:
    """Return the seconds that a Retry-After asks for, a number or a date; 0: none, or past."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now_s)
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return 0.0


def turned_away(exchange: Exchange) -> bool:
    """Whether the server didn't take the request: it was away, or wants fewer of them."""
    status, failure = exchange.http_status, exchange.failure
    if status is None:
        return failure is not None and failure.kind in ("connect", "truncated")
    if status != 200:
        return status in TURNED_AWAY
    return exchange.held_bytes <= SHORT_BYTES and _says_so(exchange)


def _says_so(exchange: Exchange) -> bool:
    """Whether a short reply with status 200 begins with an error whose code says so."""
    body = b"".join([part for _, part in exchange.reads])
    if exchange.failure and exchange.failure.kind == "truncated" and _only_began(body):
        return True
    if b"error" not in body:
        return False
    for payload in (body, *EventSplitter().feed(body)):  # in one piece, or a stream
        with suppress(EventError):
            return read_event(payload).error_code in TURNED_AWAY
    return False


def _only_began(body: bytes) -> bool:
    """Whether a response began and was cut at once: so a vLLM ends it whose queue is full."""
    return b'"response.created"' in body and b'.delta"' not in body
