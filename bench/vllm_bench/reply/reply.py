"""A reply, read piece by piece: which reads brought tokens, how it ended, its usage.

The parent process reads while the stream goes on, so that little is left to do at a reply's end,
even of a long reply.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable

from ..records.request_record import LIMIT_ENDS, Thoughts
from .events import GOOD_ENDS, error_event, read_event, told
from .exchange import Failure, PackedSegment
from .plain import PlainEvent, plain_event_of, stamps_at
from .said.event import EventError, StreamEvent, Usage
from .said.thinking import Thinking
from .sse import ERROR, MOST_EVENT_BYTES, EventSplitter, TypedPayload, is_done, may_be_json
from .words import words_of

MOST_ERROR_BYTES = 1 << 20  # of an error's body: a page at most, of which a row shows the beginning
# Most bytes of a reply in one piece, and more for each token asked for: with 20 logprobs one has
# some 2 KB.
MOST_WHOLE_BYTES, TOKEN_BYTES = 64 << 20, 4096
# A reply may have more token events than max_tokens and be healthy: gateways count by another
# tokenizer or cut tokens at characters (at most twice as many), and some leave thoughts or the
# answer's frame uncounted. What is far beyond that never ends by itself.
TIMES_ASKED, TOKENS_BEYOND = 2, 1024
NO_LIMIT = 1 << 62
EVENT_BYTES = 128  # that an event without a token counts as more: reading it takes as long
# How often to look for a pattern in a stream whose events differ in more than their text.
LESSONS = 4
WINDOW = 1 << 16  # bytes in which plain events are looked for at once
MISSES = 3  # in a segment, after which its events are read one by one

MOST_TEXT = 1 << 20  # characters of an answer that are kept
# Of one read: the most that the tokens file can store, and far more than any read brings.
MOST_TOKENS = 65535


class Reply:
    """The state of one reply. `stamps` has the stamp (ns) of each token event, in order."""

    def __init__(self, *, stream: bool, asked: int | None = None, keep_text: bool = False) -> None:
        """Start with no bytes read; `stream`: an event stream is expected.

        `asked`: the most tokens that all choices together should have; None: it isn't known.
        `keep_text`: whether `text` will be asked for.
        """
        self.stamps = array("q")
        self.token_counts = array("I")  # tokens of each event; 0: unknown
        self.finish_reasons: dict[int, str] = {}  # by choice
        self.first_visible_ns: int | None = None
        self.visible_events = 0
        self.thinking = Thinking()
        self.finish_ns: int | None = None  # when the last choice first said that it had ended
        self.usage: Usage | None = None
        self.bad_usage: Failure | None = None  # the last usage can't be true
        self.fingerprint: str | None = None
        self.model: str | None = None  # of the first event that names one
        self.error: Failure | None = None
        self.excess: Failure | None = None  # a bound that was broken: nothing more is read
        self.done = not stream  # a reply in one piece has no [DONE]
        self.body = bytearray()  # of a reply that isn't a stream
        self.words: str | None = None  # of an event that is no completion
        self.text_cut = False  # the answer goes on beyond MOST_TEXT
        self._texts: list[str] | None = [] if keep_text else None
        self._text_room = MOST_TEXT
        self._stream = stream
        self._splitter = EventSplitter(MOST_EVENT_BYTES)
        self._plain: PlainEvent | None = None
        self._plain_visible = self._plain_thinks = self._plain_answers = False
        self._plain_says = False  # the texts of plain events are the answer's
        self._learning = LESSONS
        self._alike = False  # the last event was a plain one, so that the next may be
        self._idle_bytes = 0  # of the events since the last token
        self._brought = 0  # tokens, at least
        self._most_whole = MOST_WHOLE_BYTES + TOKEN_BYTES * (asked or 0)
        self._most_tokens = NO_LIMIT if asked is None else TIMES_ASKED * asked + TOKENS_BEYOND
        self._by_ids = 0  # tokens of a reply in one piece

    @property
    def completion_tokens(self) -> int | None:
        """Generated tokens by the server's usage; else by the token ids, if each event has them."""
        said = self.usage.completion_tokens if self.usage else None
        if said:
            return said
        by_ids = sum(self.token_counts) if all(self.token_counts) else 0
        return by_ids or self._by_ids or said

    @property
    def text(self) -> str | None:
        """The visible text of the first choice so far; None: it isn't kept."""
        return None if self._texts is None else "".join(self._texts)

    @property
    def ended_by_limit(self) -> bool:
        """Whether the server says of a choice that the limit cut it."""
        return any(reason in LIMIT_ENDS for reason in self.finish_reasons.values())

    @property
    def thoughts(self) -> Thoughts | None:
        """How its thoughts came; None: there were none."""
        return self.thinking.kind(self.usage)

    @property
    def thinking_tokens(self) -> int | None:
        """The tokens of its thoughts; None: unknown."""
        cut, made = self.ended_by_limit and not self.visible_events, self.completion_tokens
        events = len(self.stamps)
        return self.thinking.tokens(self.usage, made=made, events=events, cut=cut)

    @property
    def bare(self) -> bytes:
        """What a stream has outside of its events."""
        return bytes(self._splitter.bare)

    def take(self, part: PackedSegment) -> None:
        """Read a segment: plain events many at once, all others one by one."""
        if not self._stream or part.http_status != 200:
            self.feed(part.http_status, part.reads())
            return
        stamps = array("q", part.stamps)
        ends = list(itertools.accumulate(array("I", part.lengths)))
        begin = place = misses = 0  # begin: in the body; place: the read in which that lies
        while place < len(ends) and self.excess is None:
            if self._alike and misses < MISSES and self._splitter.between_events and self._plain:
                upto = begin + min(WINDOW, MOST_EVENT_BYTES)
                found = self._plain.ends(part.body, begin, upto)
                here, begin = begin, found[-1] if found else begin
                self._note_plain(stamps_at(found, ends, stamps, place), part.body[here:begin])
                if self._plain_says and found:
                    self._say(self._plain.all_said(part.body, here, found))
                place = bisect_right(ends, begin, place)
                misses = 0 if found else misses + 1
                self._alike = bool(found) and (begin == len(part.body) or upto < len(part.body))
            else:
                self._feed(stamps[place], part.body[begin : ends[place]])
                begin = ends[place]
                place += 1

    def feed(self, http_status: int | None, reads: Iterable[tuple[int, bytes]]) -> None:
        events = self._stream and http_status == 200
        most = self._most_whole if http_status == 200 else MOST_ERROR_BYTES
        for stamp_ns, chunk in reads:
            if self.excess is not None:
                return
            if events:
                self._feed(stamp_ns, chunk)
            else:
                self._keep(chunk, most)

    def close(self, end_ns: int | None) -> None:
        """Take the end of the bytes, which came `end_ns`: read what is only now complete."""
        if self.excess is not None:
            return
        if self._stream:
            for payload in self._splitter.end():
                self._read(end_ns or 0, payload, last=True)
        elif self.body:
            self._note(end_ns or 0, self._whole())
            # A reply in one piece doesn't time its tokens.
            self.stamps, self.token_counts = array("q"), array("I")
            self.first_visible_ns = None

    def _keep(self, chunk: bytes, most: int) -> None:
        room = most - len(self.body)
        self.body += chunk[:room]
        if len(chunk) > room:
            self.excess = Failure("oversized", f"a reply of over {most >> 20} MiB")

    def _whole(self) -> StreamEvent:
        try:
            event = read_event(self.body)
        except EventError:
            self.error = Failure("protocol", f"not a completion: {words_of(self.body)}")
            return StreamEvent()
        self._by_ids = event.token_count
        return event

    def _feed(self, stamp_ns: int, chunk: bytes) -> None:
        for payload in self._splitter.feed(chunk):
            self._alike = self._plain is not None and self._plain.matches(payload)
            if self._alike:
                self._learning = LESSONS
                self._note_plain(array("q", [stamp_ns]), payload)
                if self._plain_says and self._plain:
                    self._say(self._plain.said(payload))
            else:
                self._read(stamp_ns, payload)
            if self.excess is not None:
                return
        if self._splitter.too_long:
            self._too_large("without an event's end")

    def _too_large(self, how: str) -> None:
        text = f"over {MOST_EVENT_BYTES >> 20} MiB {how}"
        self.excess = self.excess or Failure("oversized", text)

    def _note_plain(self, stamps: array[int], body: bytes) -> None:
        if not stamps:
            return
        answer = body if self._plain_answers else b""
        self.thinking.note_plain(len(stamps), answer, thinks=self._plain_thinks)
        room = self._most_tokens - self._brought
        if len(stamps) > room:
            stamps = stamps[: room + 1]
        self._count(len(stamps))
        self.stamps.extend(stamps)
        self.token_counts.frombytes(bytes(len(stamps) * self.token_counts.itemsize))
        if self._plain_visible:
            self.visible_events += len(stamps)
            if self.first_visible_ns is None:
                self.first_visible_ns = stamps[0]

    def _count(self, tokens: int) -> None:
        self._idle_bytes = 0
        self._brought += tokens
        if self._brought > self._most_tokens:
            text = f"over {self._most_tokens} tokens came, and the reply went on"
            self.excess = self.excess or Failure("overlong", text)

    def _read(self, stamp_ns: int, payload: bytes, *, last: bool = False) -> None:
        """Read an event; the `last` is one that the end of the bytes may have cut."""
        self._idle_bytes += len(payload) + EVENT_BYTES
        if may_be_json(payload):
            self._read_json(stamp_ns, payload, last=last)
        elif isinstance(payload, TypedPayload) and payload.kind == ERROR:
            self._fail(told(payload))
        elif is_done(payload):
            self.done = True
        if self._idle_bytes > MOST_EVENT_BYTES:
            self._too_large("without a token")

    def _read_json(self, stamp_ns: int, payload: bytes, *, last: bool) -> None:
        try:
            event = read_event(payload)
        except EventError as e:
            cut = f"the stream ended inside an event: {words_of(payload)}"
            self._fail(Failure("truncated", cut) if last else Failure("protocol", str(e)))
            return
        self._note(stamp_ns, event)
        if event.has_visible_tokens and self.thinking.is_opening:
            self._plain, self._alike = None, False  # its text must be looked at
        elif event.has_tokens and self._learning:
            self._learning -= 1
            self._plain = plain_event_of(payload, event)
            self._plain_visible, self._plain_thinks = event.has_visible_tokens, event.thinks
            self._plain_answers = bool(event.text)
            self._alike = self._plain is not None
            if self._texts is not None and self._plain:
                self._plain_says = self._plain.said(payload) == event.text

    def _say(self, text: str) -> None:
        """Keep a piece of the answer, within MOST_TEXT."""
        if self._texts is None or not text:
            return
        kept = text[: self._text_room]
        self._text_room -= len(kept)
        self._texts.append(kept)
        self.text_cut |= len(kept) < len(text)

    def _fail(self, failure: Failure) -> None:
        self.error = self.error or failure

    def _note(self, stamp_ns: int, event: StreamEvent) -> None:
        if event.error is not None:
            self._fail(error_event(event.error, event.error_code))
        tokens = 0
        if event.has_tokens:
            self.stamps.append(stamp_ns)
            # A server may count wrongly.
            tokens = min(event.token_count or self._by_usage(event), MOST_TOKENS)
            self.token_counts.append(tokens)
            self._count(max(1, event.token_count))
        self.thinking.note(event, tokens)
        if event.has_visible_tokens:
            self._note_visible(stamp_ns)
            self._say(event.text)
        if event.finish_reasons:
            self._note_finish(stamp_ns, event.finish_reasons)
        if event.usage or event.bad_usage:
            self._note_usage(event)
        self.fingerprint = event.fingerprint or self.fingerprint
        self.model = self.model or event.model
        self.words = self.words or event.words
        self.done |= event.done

    def _note_usage(self, event: StreamEvent) -> None:
        if event.bad_usage:
            self.bad_usage = Failure("protocol", event.bad_usage)
        elif event.usage:
            self.usage = event.usage.after(self.usage)
            self.bad_usage = None if event.usage.completion_tokens else self.bad_usage

    def _note_finish(self, stamp_ns: int, reasons: dict[int, str]) -> None:
        """Note how choices ended: once. Gateways say it again, later, which takes no longer."""
        known = self.finish_reasons
        if not known.keys() >= reasons.keys():
            self.finish_ns = stamp_ns
        # Once it has ended badly, it has.
        open_still = [n for n in reasons if n not in known or known[n] in GOOD_ENDS]
        known.update({n: reasons[n] for n in open_still})

    def _note_visible(self, stamp_ns: int) -> None:
        self.visible_events += 1
        if self.first_visible_ns is None:
            self.first_visible_ns = stamp_ns

    def _by_usage(self, event: StreamEvent) -> int:
        """Return an event's tokens by the usage in it (`continuous_usage_stats`)."""
        before = (self.usage and self.usage.completion_tokens) or 0
        upto = (event.usage and event.usage.completion_tokens) or 0
        return max(0, upto - before)
