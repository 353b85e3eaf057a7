"""The three timeouts of a request: first token, stall between tokens, total.

Streams are not parsed while they run. A deadline reads the bytes only when it is due, and usually
finds that the newest read brought a token. Before reads are handed over, the newest of them is
looked at: so a stream of comments that was handed over many times still has no token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..plan.share import NS_PER_S, Timeouts
from ..reply.events import read_event
from ..reply.exchange import Exchange, Failure, Reads
from ..reply.said.event import EventError, StreamEvent
from ..reply.sse import DONE, EventSplitter, is_done

# After [DONE] the end of the reply's framing is due at once, mostly in the same packet.
LINGER_NS = NS_PER_S


class Heard:
    """What a stream has said so far, as far as a deadline asks. Stamps in ns; None: not yet."""

    def __init__(self) -> None:
        self.token_ns: int | None = None  # of the newest token event
        self.finish_ns: int | None = None  # of a finish_reason that no token has followed
        self.done_ns: int | None = None  # of [DONE]
        self._splitter = EventSplitter()  # of what was heard; it has the event that isn't whole
        self._heard = 0  # of the reads that the exchange holds

    def hear(self, reads: Reads) -> None:
        """Hear what an exchange has read since the last time."""
        new, self._heard = reads[self._heard :], len(reads)
        if new and not self._hear_last(new[-1:]):
            self._take(_events(self._splitter, new))

    def hand_over(self, reads: Reads) -> None:
        """Hear what will be gone."""
        self.hear(reads)
        self._heard = 0

    def _hear_last(self, last: Reads) -> bool:
        """Hear the last read alone, if that is enough: it ends an event, and brought a token."""
        splitter = EventSplitter()
        events = _events(splitter, last)
        if not splitter.between_events or not any(_event(p).has_tokens for _, p in events):
            return False
        self._splitter = splitter
        self._take(events)
        return True

    def _take(self, events: Sequence[tuple[int, bytes]]) -> None:
        finish_ns = None
        for stamp_ns, payload in reversed(events):
            if is_done(payload):
                self.done_ns = stamp_ns
                continue
            event = _event(payload)
            if event.done:
                self.done_ns = stamp_ns
            if event.finish_reasons:
                finish_ns = finish_ns or stamp_ns
            if event.has_tokens:
                self.token_ns, self.finish_ns = stamp_ns, finish_ns
                return
        self.finish_ns = finish_ns or self.finish_ns

    def may_linger(self, reads: Reads, now_ns: int) -> bool:
        """Whether [DONE] seems to have come a while ago, at a glance."""
        if not reads:
            return self.done_ns is not None
        stamp_ns, body = reads[-1]
        return now_ns - stamp_ns >= LINGER_NS and DONE in body[-24:]


def check_deadline(
    exchange: Exchange, heard: Heard, timeouts: Timeouts, now_ns: int, *, stream: bool
) -> Failure | int | None:
    """Return the failure that is due, or the time (ns) at which to look again.

    None: the stream has said all, and only its connection lingers.
    """
    sent_ns = exchange.t_sent_ns
    if sent_ns is None:
        sent_ns = exchange.t_scheduled_ns
    due_ns = sent_ns + int(timeouts.total_s * NS_PER_S)
    late: Failure | None = Failure("timeout_total", f"not complete after {timeouts.total_s:g} s")
    if stream:
        heard.hear(exchange.reads)
        next_ns, failure = _next(heard, timeouts, sent_ns)
        if next_ns < due_ns or heard.done_ns is not None:
            due_ns, late = next_ns, failure
    return late if now_ns >= due_ns else due_ns


def _next(heard: Heard, timeouts: Timeouts, sent_ns: int) -> tuple[int, Failure | None]:
    """Return what is due next of a stream, and the failure that it is then."""
    stall_ns = int(timeouts.stall_s * NS_PER_S)
    if heard.done_ns is not None:
        return heard.done_ns + LINGER_NS, None
    if heard.finish_ns is not None:  # what it lacks beside tokens is told when it is judged
        return heard.finish_ns + stall_ns, None
    if heard.token_ns is not None:
        late = Failure("timeout_stall", f"no token for {timeouts.stall_s:g} s")
        return heard.token_ns + stall_ns, late
    late = Failure("timeout_first_token", f"no token within {timeouts.first_token_s:g} s")
    return sent_ns + int(timeouts.first_token_s * NS_PER_S), late


def _events(splitter: EventSplitter, reads: Iterable[tuple[int, bytes]]) -> Reads:
    return [(stamp_ns, payload) for stamp_ns, body in reads for payload in splitter.feed(body)]


def _event(payload: bytes) -> StreamEvent:
    try:
        return read_event(payload)
    except EventError:
        return StreamEvent()  # judged when the stream ends; here it only isn't a token
