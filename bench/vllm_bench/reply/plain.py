"""The short cut through a stream: most of its events differ in their text alone.

Such events are recognised by the bytes around their text, many at once: what stands between two
texts is the same each time, so that one split finds all of them.
"""

from __future__ import annotations

import itertools
import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from .said.event import StreamEvent

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content)":"([^"\\]+)"')
# The inside of a JSON string that isn't empty, as orjson accepts it (RFC 8259, section 7, and no
# half of a surrogate pair); UTF-8 is looked at apart.
RUN = rb'[^"\\\x00-\x1f]*'
UNIT = rb"[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"
PAIR = rb"[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
INSIDE = re.compile(rb"(?!\Z)%b(?:\\(?:[\"\\/bfnrt]|u(?:%b|%b))%b)*" % (RUN, UNIT, PAIR, RUN))
EDGE = 16  # bytes that are searched for: `delta":{"content":"` is rare within an event
BREAKS = re.compile(rb"[\x00-\x1f]")


@dataclass(frozen=True)
class PlainEvent:
    """The bytes before and after the text in events that differ only in their text."""

    before: bytes
    after: bytes

    def matches(self, payload: bytes) -> bool:
        """Whether a payload is this event with another text that isn't empty."""
        if not (payload.startswith(self.before) and payload.endswith(self.after)):
            return False
        text = payload[len(self.before) : -len(self.after)]
        return INSIDE.fullmatch(text) is not None and _is_utf8(text)

    @cached_property
    def _head(self) -> bytes:
        """What a stream has before the text; it ends with a quote."""
        return b"data: " + self.before

    @cached_property
    def _tail(self) -> bytes:
        """What a stream has after it, up to the next event."""
        return self.after + b"\n\n"

    @cached_property
    def _in_one_line(self) -> bool:
        return not BREAKS.search(self.before + self.after)

    def ends(self, stream: bytes, begin: int, upto: int | None = None) -> list[int]:
        """Return where each of these events ends that follow one another from `begin` on.

        None is looked for beyond `upto`.
        """
        head, tail = self._head, self._tail
        if not (self._in_one_line and stream.startswith(head, begin)):
            return []
        # Searching for few bytes is several times as fast as for all that stand between two texts.
        edge, rest = head[-EDGE:], tail + head[:-EDGE]
        pieces = (stream[begin + len(head) : upto] + head).split(edge)
        texts = [piece.removesuffix(rest) for piece in pieces]
        # An event of another kind isn't cut out: it stays within a text, whose quotes give it away.
        good = list(map(INSIDE.fullmatch, texts))
        count = good.index(None)  # at the latest the empty one after the last edge
        sizes = [len(piece) + len(edge) for piece in pieces[:count]]
        found = list(itertools.accumulate(sizes, initial=begin))
        # A text that wasn't followed by `rest` stands there whole, and is too long.
        expected = sum(map(len, texts[:count])) + count * (len(rest) + len(edge))
        if found[-1] - begin != expected:
            return []
        text, there, _ = pieces[count].partition(tail)
        if there and INSIDE.fullmatch(text):  # the last one, before an event of another kind
            found.append(found[-1] + len(head) + len(text) + len(tail))
        return found[1:] if _is_utf8(stream[begin : found[-1]]) else []

    def said(self, payload: bytes) -> str:
        """Return the text of a payload that matches."""
        return _unescaped(payload[len(self.before) : -len(self.after)])

    def all_said(self, stream: bytes, begin: int, ends: Sequence[int]) -> str:
        """Return the texts of events that follow one another from `begin` on, as one."""
        head, tail = len(self._head), len(self._tail)
        spans = zip([begin, *ends[:-1]], ends, strict=True)
        return _unescaped(b"".join([stream[here + head : end - tail] for here, end in spans]))


def _unescaped(inside: bytes) -> str:
    """Return what the inside of a JSON string says; several in a row are one (see INSIDE)."""
    return str(orjson.loads(b'"%b"' % inside))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def plain_event_of(payload: bytes, event: StreamEvent) -> PlainEvent | None:
    """Return the pattern of a payload that says `event`; None where it has more than one text.

    In valid JSON what TEXT finds is the whole of a string, and what an event says depends only on
    whether its texts are empty: with another text the payload says the same.
    """
    other = event.finish_reasons or event.usage or event.error or event.fingerprint
    if not event.has_tokens or other or event.token_count:
        return None
    place = TEXT.search(payload)
    if place is None or TEXT.search(payload, place.end()):
        return None
    return PlainEvent(payload[: place.start(1)], payload[place.end(1) :])


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
