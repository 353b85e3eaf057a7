"""One HTTP/1.1 connection of the streaming path: request bytes out, stamped body bytes in.

Each read is stamped before its bytes are looked at. The framing (httptools, in C) only finds where
the reply ends; it runs on every read, since what is left for later falls on a reply's end, when
others begin. The bytes are interpreted later, elsewhere.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, cast

import httptools

from ..reply.exchange import Exchange, Failure
from .streams import Streams
from .tls import Tls

# Most reads in one hand-over: some 30 µs of work, on another thread than the loop.
FULL_READS = 256


class Connection:
    """Carries one exchange at a time. `on_end` is called once for each, when it has ended.

    `on_full` is called when an exchange has as many reads as should be handed over at once.
    """

    def __init__(
        self,
        sock: socket.socket,
        streams: Streams,
        on_end: Callable[[Exchange], None],
        on_full: Callable[[Exchange], None] | None = None,
    ) -> None:
        """Take a connected socket. On a running loop."""
        self.recvmsg = sock.recvmsg
        self.exchange: Exchange | None = None
        self._socket: socket.socket | None = sock
        self._streams = streams
        self._on_end = on_end
        self._on_full = on_full
        self._unsent = bytearray()  # of the request: the socket didn't take it yet
        self._parser: httptools.HttpResponseParser | None = None
        self._bodies: list[bytes] = []  # of the read that is being looked at
        self.on_body = self._bodies.append  # called by httptools
        self._framed = False  # the reply says where it ends
        self._in_body = False  # the final status has come; interim ones don't count
        self._complete = False
        self._keep_alive = False
        self._said_goodbye = False  # the far end will send nothing more
        streams.add(sock, self)

    @property
    def usable(self) -> bool:
        return self._socket is not None and self.exchange is None

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Hand a request to the socket. Only while `usable`."""
        self.exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._framed = self._in_body = self._complete = False
        # Before the write: the socket's time counts as the server's, so that the
        # client's error can only make a TTFT longer, never shorter.
        exchange.t_sent_ns = time.perf_counter_ns()
        self._write(request)

    def abort(self, failure: Failure) -> None:
        """End the exchange with a failure and close: the server sees the client hang up."""
        self._fail(failure, time.perf_counter_ns())

    def close(self) -> None:
        """Close the connection; no exchange may be under way."""
        self._shut()

    # What the set of streams tells

    def received(self, data: bytes, stamp_ns: int, own_ns: int) -> None:
        """Let the framing cut the body out of a read; end the exchange when it is complete."""
        exchange, parser, failure = self.exchange, self._parser, None
        if exchange is None or parser is None:
            self.close()  # bytes without a request: the connection can't be trusted
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            failure = Failure("protocol", "the server switched protocols")
        except httptools.HttpParserError as e:
            failure = Failure("protocol", f"not HTTP/1.1: {e}")
        reads = exchange.reads
        for body in self._bodies:
            reads.append((stamp_ns, body))
            exchange.lates_ns.append(own_ns - stamp_ns)
        self._bodies.clear()
        if failure is not None:
            self._fail(failure, stamp_ns)
        elif self._complete:  # not in the parser's callback: the next request replaces the parser
            self._end(exchange, stamp_ns)
        elif len(reads) >= FULL_READS and self._on_full:
            self._on_full(exchange)

    def writable(self) -> None:
        """Send more of what the socket didn't take at once."""
        del self._unsent[: self._write_now(self._unsent)]
        if not self._unsent and self._socket is not None:
            self._streams.await_writable(self._socket, False)

    def lost(self, error: OSError | None) -> None:
        """End the exchange in flight; a reply without framing ends with its connection."""
        self._shut()
        if self.exchange is None:
            return
        now_ns = time.perf_counter_ns()
        if error is None and self._in_body and not self._framed:
            self._finish(self.exchange, now_ns)
        elif self.exchange.http_status is None:
            self._fail(Failure("truncated", f"closed before any reply{_why(error)}"), now_ns)
        else:
            self._fail(Failure("truncated", f"closed in mid-reply{_why(error)}"), now_ns)

    # httptools callbacks, and `on_body`

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that are needed to read the body."""
        exchange = cast(Exchange, self.exchange)
        key = name.lower()
        if key == b"content-type":
            exchange.content_type = value.decode("latin-1").lower()
        elif key == b"content-encoding":
            exchange.content_encoding = value.decode("latin-1").lower()
        elif key in (b"content-length", b"transfer-encoding"):
            self._framed = exchange.framed = True

    def on_headers_complete(self) -> None:
        """Keep the status, unless it is an interim one: the real reply is still to come."""
        status = cast(httptools.HttpResponseParser, self._parser).get_status_code()
        if status >= 200:
            cast(Exchange, self.exchange).http_status = status
            self._in_body = True

    def on_message_complete(self) -> None:
        """Note that the reply is complete, unless it is an interim one (1xx)."""
        if self._in_body:
            parser = cast(httptools.HttpResponseParser, self._parser)
            self._keep_alive = parser.should_keep_alive()
            self._complete = True

    def _write(self, data: bytes) -> None:
        if not self._unsent:
            data = data[self._write_now(data) :]
        if data and self._socket is not None:
            self._unsent += data
            self._streams.await_writable(self._socket, True)

    def _write_now(self, data: bytes | bytearray) -> int:
        """Write what the socket takes, and return how much that was."""
        if self._socket is None or not data:
            return 0
        try:
            return self._socket.send(data)
        except OSError:  # it is full, or broken: then the next read tells
            return 0

    def _end(self, exchange: Exchange, end_ns: int) -> None:
        if self._unsent:  # answered before all was sent; nobody will read the rest
            self._shut()
        elif not self._framed or not self._keep_alive or self._said_goodbye:
            self.close()
        self._finish(exchange, end_ns)

    def _fail(self, failure: Failure, end_ns: int) -> None:
        self._shut()
        if self.exchange is not None:
            self.exchange.failure = failure
            self._finish(self.exchange, end_ns)

    def _finish(self, exchange: Exchange, end_ns: int) -> None:
        exchange.t_end_ns = end_ns
        self.exchange = None
        self._on_end(exchange)

    def _shut(self) -> None:
        sock, self._socket = self._socket, None
        self._parser = None  # breaks a reference cycle, so that no garbage collection is needed
        self._unsent.clear()
        if sock is not None:
            self._streams.drop(sock)
            sock.close()


class SecureConnection(Connection):
    """The same over TLS, which has shaken hands on the socket: reads are stamped below it."""

    def __init__(self, tls: Tls, *of_any: Any) -> None:
        """Take what any connection takes, after the side of TLS."""
        self._tls = tls
        super().__init__(*of_any)

    def received(self, data: bytes, stamp_ns: int, own_ns: int) -> None:
        """Take the text of a read: a session ticket has none, and a goodbye may follow it."""
        try:
            text, self._said_goodbye = self._tls.opened(data)
        except ssl.SSLError as e:
            self.lost(e)
            return
        super()._write(self._tls.to_send())
        if text:
            super().received(text, stamp_ns, own_ns)
        if self._said_goodbye:
            self.lost(None)

    def close(self) -> None:
        """Say goodbye, and close the connection; no exchange may be under way."""
        self._write_now(self._tls.farewell())
        super().close()

    def _write(self, data: bytes) -> None:
        super()._write(self._tls.sealed(data))


def _why(error: OSError | None) -> str:
    return f": {error}" if error else ""
