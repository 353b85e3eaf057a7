"""Server-sent events: bytes in, events out, no I/O.

A vLLM stream is `data: <json>` and a blank line, again and again. Proxies add comments, empty
events and other line ends, and may cut at any byte, so an event has the stamp of the read that
completed it (the format: https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import re

DONE = b"[DONE]"
BLANKS = b' \t\r\n"'  # what may stand around it

# Bytes without an event: of a line that goes on, of an event's lines, of comments. A chunk of
# text has a few hundred; the token ids of a prompt of a million tokens are 7 MB.
MOST_EVENT_BYTES = 16 << 20
MOST_BARE_BYTES = 1 << 16  # of text outside of events that are kept: what a server says in them

BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(rb"\r\n|\r|\n")
ERROR, PINGS = b"error", (b"ping", b"heartbeat", b"keepalive", b"keep-alive")  # types of events
IGNORED = (b"id", b"retry", b"event", b"data")  # fields that need no value


class TypedPayload(bytes):
    """What an event says that has one of these types; a line `error:` is llama.cpp's."""

    kind = b""


def is_done(payload: bytes) -> bool:
    """Whether an event is the one that ends a stream."""
    return payload.strip(BLANKS) == DONE


def may_be_json(payload: bytes) -> bool:
    """Whether an event should be JSON: it is no heartbeat, no end, and of no type of its own."""
    if type(payload) is not bytes:
        return False
    return payload.startswith(b"{") or payload.strip(BLANKS) not in (b"", DONE)


class EventSplitter:
    """Cuts a byte stream into the payloads of its events; reads may end anywhere."""

    def __init__(self, most_bytes: int = MOST_EVENT_BYTES) -> None:
        """Hold no more than `most_bytes` that belong to no complete event."""
        self.too_long = False  # more came, and nothing after them is read
        self.bare = bytearray()  # text outside of events, such as a page or a gateway's message
        self._most = most_bytes
        self._line = bytearray()  # the one that has begun
        self._data = bytearray()  # of the event that has begun; each of its lines ends in LF
        self._type = b""
        self._quiet = 0  # bytes of complete lines since the last event with data
        self._after_cr = False
        self._begun = False

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins a line, and no event is open."""
        return not (self._quiet or self._line or self._after_cr)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the payloads of the events that they completed."""
        # The usual read: one complete event, of one line.
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and not self._quiet
            and not self._line
            and chunk.count(b"\n") == 2
            and b"\r" not in chunk
            and len(chunk) <= self._most
            and not self.too_long
        ):
            self._begun, self._after_cr = True, False
            return [chunk[6:-2]]
        payloads: list[bytes] = []
        for line in self._lines(chunk):
            self._quiet += len(line) + 1
            if self._quiet > self._most:
                break
            if line.startswith(b"data:"):
                self._data += line[5:].removeprefix(b" ") + b"\n"
            elif line:
                self._other(line)
            elif self._data or self._type == ERROR:
                payloads.append(self._event())
            else:
                self._type = b""
        if self._quiet + len(self._line) > self._most:
            self.too_long = True
            self._line, self._data = bytearray(), bytearray()
        return payloads

    def end(self) -> list[bytes]:
        """Take the end of the bytes: many a server ends its last event without a blank line."""
        return self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that a chunk completes: LF, CR and CRLF end them, mixed as they come."""
        if self.too_long or not chunk:
            return []
        if self._after_cr or b"\r" in chunk:
            within = self._after_cr and chunk[:1] == b"\n"  # of a CRLF
            self._after_cr = chunk.endswith(b"\r")
            *lines, rest = LINE_END.split(chunk[1:] if within else chunk)
        else:
            *lines, rest = chunk.split(b"\n")
        if lines and self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        self._line += rest
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(BOM)
        return lines

    def _other(self, line: bytes) -> None:
        """Read a line without data. Comments say nothing; text that is no field is kept."""
        name, colon, value = line.partition(b":")
        if name == b"event":
            self._type = value.strip()[:32].lower()
        elif name == ERROR and colon:
            self._type = ERROR
            self._data += value.strip() + b"\n"
        elif name and name not in IGNORED and len(self.bare) < MOST_BARE_BYTES:
            self.bare += line[:MOST_BARE_BYTES] + b"\n"

    def _event(self) -> bytes:
        """Return the payload of the event that a blank line ends."""
        del self._data[-1:]
        payload = bytes(self._data)
        self._data.clear()
        self._quiet = 0
        if self._type:
            kind, self._type = self._type, b""
            if kind == ERROR or kind in PINGS:
                payload = TypedPayload(payload)
                payload.kind = kind
        return payload
