"""The three timeouts of a request: first token, stall between tokens, total.

Streams are not parsed while they run. A deadline reads the bytes only when it is
due, and usually finds that the newest read brought a token.
"""

from __future__ import annotations

from ..plan.share import NS_PER_S, Timeouts
from ..reply.events import EventError, read_event
from ..reply.exchange import Exchange, Failure
from ..reply.sse import DONE, split_events


def check_deadline(
    exchange: Exchange, timeouts: Timeouts, now_ns: int, *, stream: bool
) -> Failure | int:
    """Return the failure that is due, or the time (ns) at which to look again."""
    sent_ns = exchange.t_sent_ns
    if sent_ns is None:
        sent_ns = exchange.t_scheduled_ns
    total_ns = sent_ns + int(timeouts.total_s * NS_PER_S)
    if now_ns >= total_ns:
        return Failure("timeout_total", f"not complete after {timeouts.total_s:g} s")
    if not stream:
        return total_ns
    last_ns = last_token_ns(exchange.reads)
    if last_ns is None:
        last_ns = exchange.handed_over_ns  # hundreds of reads: certainly with tokens
    if last_ns is None:
        next_ns = sent_ns + int(timeouts.first_token_s * NS_PER_S)
        late = Failure("timeout_first_token", f"no token within {timeouts.first_token_s:g} s")
    else:
        next_ns = last_ns + int(timeouts.stall_s * NS_PER_S)
        late = Failure("timeout_stall", f"no token for {timeouts.stall_s:g} s")
    return late if now_ns >= next_ns else min(next_ns, total_ns)


def last_token_ns(reads: list[tuple[int, bytes]]) -> int | None:
    """Return the stamp of the last read that completed a token event; None: no token came."""
    newest = _last_token_in(reads[-1:])
    # An event may be cut by reads, so only the complete stream can show that no token came.
    return newest if newest is not None else _last_token_in(reads)


def _last_token_in(reads: list[tuple[int, bytes]]) -> int | None:
    last_ns = None
    for stamp_ns, payload in split_events(reads):
        if payload != DONE and _brings_tokens(payload):
            last_ns = stamp_ns
    return last_ns


def _brings_tokens(payload: bytes) -> bool:
    try:
        return read_event(payload).has_tokens
    except EventError:
        return False  # judged when the stream ends; here it only isn't a token
