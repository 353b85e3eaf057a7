"""One HTTP/1.1 connection of the server: requests in, answers out, one at a time.

A write goes straight to the socket when nothing waits before it. uvloop's own
transport would keep it until the loop's turn ends, and a stamp taken before it
would then tell the time of the batch, not of the event.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from .intake import Intake
from .settings import SERVER

LAST_CHUNK = b"0\r\n\r\n"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that has come in whole."""

    method: str
    target: str  # path and query, as they stood in the first line
    headers: dict[str, str]  # by small-letter name
    body: bytes
    keep_alive: bool
    received_ns: int  # the read that brought its last byte

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Handler(Protocol):
    """Answers requests."""

    def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer a request on its connection, now or later."""


class Listener(Protocol):
    """An answer under way, which must know what becomes of its connection."""

    def resume(self) -> None:
        """Continue: the client reads again."""

    def client_gone(self) -> None:
        """Stop: nobody is there any more."""


class Connection(asyncio.Protocol):
    """Reads requests and carries the answer to each before the next one is looked at."""

    def __init__(self, handler: Handler, intake: Intake) -> None:
        """Make a connection that is not yet connected."""
        self._handler = handler
        self._intake = intake
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._waiting: deque[HttpRequest] = deque()  # pipelined behind the one being answered
        self._request: HttpRequest | None = None
        self._stamp_ns = 0
        self.listener: Listener | None = None
        self.paused = False  # the client doesn't read: what is generated has to wait

    # what an answer does

    def put(
        self,
        status: int,
        body: bytes,
        content_type: str | None = JSON,
        more: str = "vary: Origin\r\n",
        length: int | None = None,
    ) -> None:
        """Send an answer in one piece; `length` may promise more than the body has."""
        kind = f"content-type: {content_type}\r\n" if content_type else ""
        size = len(body) if length is None else length
        self.write(self._head(status, f"content-length: {size}\r\n{kind}{more}") + body)

    def start_stream(self) -> None:
        """Send the head of an event stream."""
        lines = "content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\n"
        self.write(self._head(200, f"{lines}transfer-encoding: chunked\r\n"))

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == 0:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the client hung up; connection_lost is about to say so
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
        """Drop the connection with a TCP reset."""
        self.listener = None
        if self._transport is None:
            return
        with socket.socket(fileno=os.dup(self._fd)) as twin:  # the same socket underneath
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send each write at once, however small."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = sock.fileno()

    def data_received(self, data: bytes) -> None:
        """Stamp the read; it is looked at when those before it have been."""
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
        """Note that the client is behind."""
        self.paused = True

    def resume_writing(self) -> None:
        """Send what had to wait."""
        self.paused = False
        if self.listener is not None:
            self.listener.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer that nobody will read it."""
        self._transport = None
        self._fd = -1
        self._waiting.clear()
        del self._parser  # it refers back to this connection: garbage that only a search finds
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.client_gone()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Start with nothing."""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """Keep the target; a long one comes in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let a client send its body that asks first."""
        if self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Take the request, unless one is being answered."""
        request = HttpRequest(
            self._parser.get_method().decode(),
            self._url.decode("latin-1"),
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
        self._handler.handle(request, self)

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
