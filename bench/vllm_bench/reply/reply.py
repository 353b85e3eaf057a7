"""A reply, read piece by piece: which reads brought tokens, how it ended, its usage.

The parent process reads while the stream goes on, so that little is left to do at a reply's end,
even of a long reply.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from .events import EventError, StreamEvent, Usage, read_event
from .exchange import Failure, PackedSegment
from .plain import PlainEvent, plain_event_of
from .sse import DONE, EventSplitter

MOST_BODY_BYTES = 1_000_000  # of a reply that isn't a stream; enough for replies and errors
# How often to look for a pattern in a stream whose events differ in more than their text.
LESSONS = 4

MOST_TOKENS = (
    65535  # of one read: the most that the tokens file can store, and far more than any read brings
)


class Reply:
    """The state of one reply. `stamps` has the stamp (ns) of each token event, in order."""

    def __init__(self, *, stream: bool) -> None:
        """Start with no bytes read; `stream`: an event stream is expected."""
        self.stamps = array("q")
        self.token_counts = array("I")  # tokens of each event; 0: unknown
        self.finish_reasons: dict[int, str] = {}
        self.first_visible_ns: int | None = None
        self.visible_events = 0
        self.finish_ns: int | None = None
        self.usage: Usage | None = None
        self.fingerprint: str | None = None
        self.model: str | None = None  # of the first event that names one
        self.error: Failure | None = None
        self.excess: Failure | None = None  # which bound it broke
        self.done = not stream  # a reply in one piece has no [DONE]
        self.body = bytearray()  # of a reply that isn't a stream
        self._stream = stream
        self._splitter = EventSplitter()
        self._plain: PlainEvent | None = None
        self._plain_visible = False
        self._learning = LESSONS
        self._alike = False  # the last event was a plain one, so that the next may be

    def take(self, part: PackedSegment) -> None:
        """Read a segment: plain events many at once, all others one by one."""
        if not self._stream or part.http_status != 200:
            self.feed(part.http_status, part.reads())
            return
        stamps = array("q", part.stamps)
        ends = list(itertools.accumulate(array("I", part.lengths)))
        begin = place = 0  # in the body, and the read in which that lies
        while place < len(ends):
            if self._alike and self._splitter.between_events and self._plain:
                found = self._plain.ends(part.body, begin)
                self._note_plain(stamps_at(found, ends, stamps, place))
                begin = found[-1] if found else begin
                place = bisect_right(ends, begin, place)
                self._alike = begin == len(part.body)
            else:
                self._feed(stamps[place], part.body[begin : ends[place]])
                begin = ends[place]
                place += 1

    def feed(self, http_status: int | None, reads: Iterable[tuple[int, bytes]]) -> None:
        if not self._stream or http_status != 200:
            for _, chunk in reads:
                if len(self.body) < MOST_BODY_BYTES:
                    self.body += chunk
            return
        for stamp_ns, chunk in reads:
            self._feed(stamp_ns, chunk)

    def close(self, end_ns: int | None) -> None:
        """Read a body that must be complete first; `end_ns` is when the last byte came."""
        if self._stream or not self.body:
            return
        try:
            event = read_event(bytes(self.body))
        except EventError as e:
            self.error = Failure("protocol", str(e))
            return
        self._note(end_ns or 0, event)
        # A reply in one piece doesn't time its tokens.
        self.stamps, self.token_counts = array("q"), array("I")
        self.first_visible_ns = None

    def _feed(self, stamp_ns: int, chunk: bytes) -> None:
        for payload in self._splitter.feed(chunk):
            self._alike = self._plain is not None and self._plain.matches(payload)
            if self._alike:
                self._learning = LESSONS
                self._note_plain(array("q", [stamp_ns]))
            elif payload == DONE:
                self.done = True
            else:
                self._read(stamp_ns, payload)

    def _note_plain(self, stamps: array[int]) -> None:
        if not stamps:
            return
        self.stamps.extend(stamps)
        self.token_counts.frombytes(bytes(len(stamps) * self.token_counts.itemsize))
        if self._plain_visible:
            self.visible_events += len(stamps)
            if self.first_visible_ns is None:
                self.first_visible_ns = stamps[0]

    def _read(self, stamp_ns: int, payload: bytes) -> None:
        try:
            event = read_event(payload)
        except EventError as e:
            self.error = self.error or Failure("protocol", str(e))
            return
        self._note(stamp_ns, event)
        if event.has_tokens and self._learning:
            self._learning -= 1
            self._plain = plain_event_of(payload, event)
            self._plain_visible = event.has_visible_tokens
            self._alike = self._plain is not None

    def _note(self, stamp_ns: int, event: StreamEvent) -> None:
        if event.error is not None:
            self.error = self.error or Failure("error_event", event.error)
        if event.has_tokens:
            self.stamps.append(stamp_ns)
            # A server may count wrongly.
            self.token_counts.append(min(event.token_count or self._by_usage(event), MOST_TOKENS))
        if event.has_visible_tokens:
            self._note_visible(stamp_ns)
        if event.finish_reasons:
            self.finish_reasons |= event.finish_reasons
            self.finish_ns = stamp_ns
        self.usage = event.usage or self.usage
        self.fingerprint = event.fingerprint or self.fingerprint
        self.model = self.model or event.model

    def _note_visible(self, stamp_ns: int) -> None:
        self.visible_events += 1
        if self.first_visible_ns is None:
            self.first_visible_ns = stamp_ns

    def _by_usage(self, event: StreamEvent) -> int:
        """Return an event's tokens by the usage in it (`continuous_usage_stats`)."""
        before = self.usage.completion_tokens if self.usage else 0
        brought = event.usage.completion_tokens - before if event.usage else 0
        return max(0, brought)


def stamps_at(
    ends: Sequence[int], reads: Sequence[int], stamps: array[int], first: int
) -> array[int]:
    """Return the stamp of each event: that of the read which brought its last byte.

    Events and reads are given by where they end; no event ends before the read `first`.
    """
    last = first + len(ends)
    if reads[first:last] == ends:  # an event in each read
        return stamps[first:last]
    return array("q", [stamps[bisect_left(reads, end, first)] for end in ends])
