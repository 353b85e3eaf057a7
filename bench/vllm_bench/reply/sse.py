"""Server-sent events: bytes in, events out, no I/O.

A vLLM stream is `data: <json>` and a blank line, again and again. Proxies add
comments and CRLF and may cut at any byte, so an event has the stamp of the read
that completed it (the format: https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

DONE = b"[DONE]"


class EventSplitter:
    """Cuts a byte stream into the payloads of its events; reads may end anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def between_events(self) -> bool:
        """Whether the next byte begins a line, and no event is open."""
        return not (self._rest or self._data)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the payloads of the events that they completed."""
        # The usual read: one complete event, of one line.
        if (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and not self._rest
            and not self._data
            and chunk.count(b"\n") == 2
            and chunk[-3:-2] != b"\r"
        ):
            return [chunk[6:-2]]
        payloads: list[bytes] = []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
            # All other lines (comments, event:, id:, retry:) have no data.
        return payloads


def split_events(reads: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield (stamp_ns, payload) for each event in (stamp_ns, bytes) reads."""
    splitter = EventSplitter()
    for stamp_ns, chunk in reads:
        for payload in splitter.feed(chunk):
            yield stamp_ns, payload
