"""One HTTP/1.1 connection of the server: requests in, answers out, one at a time.

A write goes directly to the socket when nothing waits before it. uvloop's own
transport would keep it until the loop's turn ends, and a stamp taken before it
would then be the time of the batch, not of the event.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from .settings import SERVER

LAST_CHUNK = b"0\r\n\r\n"
JSON = "application/json"
VARY = "vary: Origin\r\n"
_TURN_NS = 200_000  # of work between two checks of the sockets


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request."""

    method: str
    path: str  # without the query
    headers: dict[str, str]  # by lower-case name
    body: bytes
    keep_alive: bool
    received_ns: int  # the read that brought its last byte


class Intake:
    """Input that waits to be handled, in its order, a little at each turn of the loop.

    Each read is stamped at once, but answering a request takes a tenth of a millisecond. If that
    were done at once too, the last of 256 that came together would be stamped 25 ms too late, and
    the truth file would be wrong.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def put(self, work: Callable[[], None]) -> None:
        """Add something to do after what came before it."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        until_ns = time.perf_counter_ns() + _TURN_NS
        while self._waiting:
            self._waiting[0]()
            self._waiting.popleft()  # afterwards: while it waits, a turn is due
            if time.perf_counter_ns() >= until_ns:
                break
        if self._waiting:
            self._loop.call_soon(self._turn)


class Listener(Protocol):
    """An answer in progress, which must know the state of its connection."""

    def resume(self) -> None:
        """Continue: the client reads again."""

    def client_gone(self) -> None:
        """Stop: the client has left."""


class Connection(asyncio.Protocol):
    """Reads requests, and sends the answer to each before it handles the next."""

    def __init__(self, handle: Callable[[HttpRequest, Connection], None], intake: Intake) -> None:
        """Hand each request to `handle`, which answers it now or later."""
        self._handle = handle
        self._intake = intake
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._waiting: deque[HttpRequest] = deque()  # pipelined behind the one being answered
        self._request: HttpRequest | None = None
        self._stamp_ns = 0
        self.listener: Listener | None = None
        self.paused = False  # the client doesn't read: generation has to wait

    # called by answers

    def put(
        self,
        status: int,
        body: bytes,
        content_type: str | None = JSON,
        more: str = VARY,
        length: int | None = None,
    ) -> None:
        """Send an answer in one piece; `length` may be more than the body has."""
        kind = f"content-type: {content_type}\r\n" if content_type else ""
        size = len(body) if length is None else length
        self.write(self._head(status, f"content-length: {size}\r\n{kind}{more}") + body)

    def start_stream(self) -> None:
        kind = "content-type: text/event-stream; charset=utf-8\r\n"
        self.write(self._head(200, f"{kind}{VARY}transfer-encoding: chunked\r\n"))

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == 0:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the client hung up; connection_lost comes next
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def end(self) -> None:
        """Finish the answer: take the next request, or close if the client wants that."""
        self.listener = None
        request, self._request = self._request, None
        if request is not None and not request.keep_alive:
            self.close()
        elif self._waiting:
            self._take(self._waiting.popleft())

    def close(self) -> None:
        """Close once all is sent."""
        self.listener = None
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        self.listener = None
        if self._transport is None:
            return
        with socket.socket(fileno=os.dup(self._fd)) as twin:  # the same socket
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        # Each write is sent at once, even a small one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = sock.fileno()

    def data_received(self, data: bytes) -> None:
        """Stamp the read; it is handled after those before it."""
        stamp_ns = time.perf_counter_ns()  # the bytes have arrived
        self._intake.put(lambda: self._parse(data, stamp_ns))

    def _parse(self, data: bytes, stamp_ns: int) -> None:
        if self._transport is None:
            return  # the client has gone meanwhile
        self._stamp_ns = stamp_ns
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.write(self._head(400, "content-type: text/plain; charset=utf-8\r\n"))
            self.write(b"Invalid HTTP request received.")
            self.close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.listener is not None:
            self.listener.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fd = -1
        self._waiting.clear()
        del self._parser  # breaks a reference cycle, so that no garbage collection is needed
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.client_gone()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url  # a long URL comes in pieces

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = HttpRequest(
            self._parser.get_method().decode(),
            self._url.decode("latin-1").partition("?")[0],
            self._headers,
            b"".join(self._body),
            self._parser.should_keep_alive(),
            self._stamp_ns,
        )
        if self._request is None:
            self._take(request)
        else:
            self._waiting.append(request)

    def _take(self, request: HttpRequest) -> None:
        self._request = request
        self._handle(request, self)

    def _head(self, status: int, lines: str) -> bytes:
        last = self._request is not None and not self._request.keep_alive
        close = "connection: close\r\n" if last else ""
        return (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {formatdate(usegmt=True)}\r\n"
            f"server: {SERVER}\r\n{lines}{close}\r\n"
        ).encode("latin-1")


def http_chunk(data: bytes) -> bytes:
    """Return data framed as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
