"""One HTTP/1.1 connection of the streaming path: request bytes out, stamped body bytes in.

The stamp is taken before anything else is done with a read. The framing
(httptools, in C) only finds where the reply ends. The bytes are interpreted
later, elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import cast

import httptools

from ..reply.exchange import Exchange, Failure

# Most reads in one hand-over: some 30 µs of work, on another thread than the loop.
FULL_READS = 256


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. `on_end` is called once for each, when it has ended.

    `on_full` is called when an exchange has as many reads as should be handed over at once.
    """

    def __init__(
        self,
        on_end: Callable[[Exchange], None],
        on_full: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._on_end = on_end
        self._on_full = on_full
        self._transport: asyncio.Transport | None = None
        self._fd: int | None = None  # to write to; None: through the transport
        self._parser: httptools.HttpResponseParser | None = None
        self._stamp_ns = 0
        self._framed = False  # the reply says where it ends
        self._in_body = False  # the final status has come; interim ones don't count
        self._complete = False
        self._keep_alive = False
        self.exchange: Exchange | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and self.exchange is None

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Hand a request to the socket. Only while `usable`."""
        transport = cast(asyncio.Transport, self._transport)
        self.exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._framed = self._in_body = self._complete = False
        # Before the write: the socket's time counts as the server's, so that the
        # client's error can only make a TTFT longer, never shorter.
        exchange.t_sent_ns = time.perf_counter_ns()
        written = self._write_now(request)
        if written < len(request):
            transport.write(request[written:])

    def _write_now(self, request: bytes) -> int:
        """Write to the socket itself what it takes, and return how much that was.

        uvloop's transport writes only when the loop's turn ends: in a burst of requests the first
        would wait for the last, and its stamp would be too early by that time.
        """
        if self._fd is None:
            return 0  # TLS: only the transport can write
        try:
            return os.write(self._fd, request)
        except BlockingIOError:
            return 0
        except OSError:
            return 0  # broken: the transport will notice and report it

    def abort(self, failure: Failure) -> None:
        """End the exchange with a failure and close: the server sees the client hang up."""
        self._fail(failure, time.perf_counter_ns())

    def close(self) -> None:
        """Close the connection; no exchange may be under way."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = None if transport.get_extra_info("ssl_object") else sock.fileno()

    def data_received(self, data: bytes) -> None:
        """Stamp the read, then let the framing cut the body out of it."""
        self._stamp_ns = time.perf_counter_ns()  # the bytes have arrived
        if self.exchange is None or self._parser is None:
            self.close()  # bytes without a request: the connection can't be trusted
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Failure("protocol", "the server switched protocols"), self._stamp_ns)
        except httptools.HttpParserError as e:
            self._fail(Failure("protocol", f"not HTTP/1.1: {e}"), self._stamp_ns)
        else:
            # Not in the parser's callback: the next request replaces the parser.
            if self._complete:
                self._end(self._stamp_ns)
            elif self._on_full and self.exchange and len(self.exchange.reads) >= FULL_READS:
                self._on_full(self.exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange in flight; a reply without framing ends with its connection."""
        self._transport = None
        if self.exchange is None:
            self._parser = None  # breaks a reference cycle, so that no garbage collection is needed
            return
        now_ns = time.perf_counter_ns()
        if exc is None and self._in_body and not self._framed:
            self._end(now_ns)
        elif self.exchange.http_status is None:
            self._fail(Failure("truncated", f"closed before any reply{_why(exc)}"), now_ns)
        else:
            self._fail(Failure("truncated", f"closed in mid-reply{_why(exc)}"), now_ns)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that are needed to read the body."""
        exchange = cast(Exchange, self.exchange)
        key = name.lower()
        if key == b"content-type":
            exchange.content_type = value.decode("latin-1").lower()
        elif key == b"content-encoding":
            exchange.content_encoding = value.decode("latin-1").lower()
        elif key in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Keep the status, unless it is an interim one: the real reply is still to come."""
        status = cast(httptools.HttpResponseParser, self._parser).get_status_code()
        if status >= 200:
            cast(Exchange, self.exchange).http_status = status
            self._in_body = True

    def on_body(self, body: bytes) -> None:
        """Keep the bytes with the stamp of the read that brought them."""
        cast(Exchange, self.exchange).reads.append((self._stamp_ns, body))

    def on_message_complete(self) -> None:
        """Note that the reply is complete, unless it is an interim one (1xx)."""
        if self._in_body:
            parser = cast(httptools.HttpResponseParser, self._parser)
            self._keep_alive = parser.should_keep_alive()
            self._complete = True

    def _end(self, end_ns: int) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size() > 0:
            self._transport.abort()  # answered before all was sent; nobody will read the rest
            self._transport = None
        elif not self._framed or not self._keep_alive:
            self.close()
        self._finish(end_ns)

    def _fail(self, failure: Failure, end_ns: int) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        if self.exchange is not None:
            self.exchange.failure = failure
            self._finish(end_ns)

    def _finish(self, end_ns: int) -> None:
        exchange = cast(Exchange, self.exchange)
        exchange.t_end_ns = end_ns
        self.exchange = None
        self._on_end(exchange)


def _why(exc: Exception | None) -> str:
    return f": {exc}" if exc else ""
