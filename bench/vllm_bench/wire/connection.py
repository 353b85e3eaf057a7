"""One HTTP/1.1 connection of the streaming path: request bytes out, stamped body bytes in.

Each read is stamped before its bytes are looked at. The framing (httptools, in C) only finds where
the reply ends; it runs on every read, since what is left for later falls on a reply's end, when
others begin. The bytes are interpreted later, elsewhere.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import cast

import httptools

from ..reply.exchange import Exchange, Failure
from .streams import Streams

# The most reads that are handed over at once: some 30 µs of work, on another thread than the loop.
FULL_READS = 256
FULL_BYTES = 1_000_000  # the same where reads are large
# Most bytes in a row that are no body's: headers (Chrome's limit), interim replies, trailers.
MOST_BARREN_BYTES = 256 * 1024
# A server that closed before it saw the request has closed within this time; one that closes later
# had the request, and gave no reply.
CROSSING_NS = 1_000_000_000
# A lone LF as the end of a header's line (RFC 9112, 2.2), and chunk sizes padded with blanks.
TOLERATED = {"lenient_optional_cr_before_lf": True, "lenient_spaces_after_chunk_size": True}
# Headers of the reply, and where they are kept.
KEPT = {
    name.encode(): name.replace("-", "_")
    for name in ("content-type", "content-encoding", "location", "retry-after")
}


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
        self._in_body = False  # the final status has come; interim ones don't count
        self._complete = False
        self._barren = 0  # bytes since the last ones of a body
        self._keep_alive = False
        self._said_goodbye = False  # the far end will send nothing more
        self._used = False  # it has carried a reply
        self.crossed = False  # its far end closed it while the request was on its way
        streams.add(sock, self)

    @property
    def usable(self) -> bool:
        return self._socket is not None and self.exchange is None

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Hand a request to the socket. Only while `usable`."""
        self.exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**TOLERATED)
        self._in_body = self._complete = False
        self._barren = 0
        if exchange.t_sent_ns is None:  # the clock of one that is sent again runs on
            # Before the write: the socket's time counts as the server's, so that the
            # client's error can only make a TTFT longer, never shorter.
            exchange.t_sent_ns = time.perf_counter_ns()
        self._write(request)

    def abort(self, failure: Failure) -> None:
        """End the exchange with a failure and close: the server sees the client hang up."""
        self._fail(failure, time.perf_counter_ns())

    def conclude(self) -> None:
        """End the exchange as it stands, and close: all of it came, but for the framing's end."""
        self._shut()
        if self.exchange is not None:
            self._finish(self.exchange, time.perf_counter_ns())

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
        reads, bodies = exchange.reads, self._bodies
        if bodies:
            for body in bodies:
                reads.append((stamp_ns, body))
                exchange.lates_ns.append(own_ns - stamp_ns)
            bodies.clear()
            exchange.held_bytes += len(data)
            self._barren = 0
        else:
            self._barren += len(data)
            failure = failure or self._endless()
        if self._complete:  # not in the parser's callback: the next request replaces the parser
            self._keep_alive &= failure is None  # something came behind it
            self._end(exchange, stamp_ns)
        elif failure is not None:
            self._fail(failure, stamp_ns)
        elif (len(reads) >= FULL_READS or exchange.held_bytes >= FULL_BYTES) and self._on_full:
            self._on_full(exchange)

    def _endless(self) -> Failure | None:
        if self._barren <= MOST_BARREN_BYTES:
            return None
        text = f"{self._barren} bytes of headers or framing: {MOST_BARREN_BYTES} are the most"
        return Failure("oversized", text)

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
        if error is None and self._in_body and not self.exchange.framed:
            self._finish(self.exchange, now_ns)
        elif self.exchange.http_status is None:
            self.crossed = self._has_crossed(self.exchange, error, now_ns)
            self._fail(Failure("truncated", f"closed before any reply{_why(error)}"), now_ns)
        else:
            self._fail(Failure("truncated", f"closed in mid-reply{_why(error)}"), now_ns)

    def _has_crossed(self, exchange: Exchange, error: OSError | None, now_ns: int) -> bool:
        """Whether the far end closed an idle connection before it can have seen the request."""
        clean = self._used and (error is None or isinstance(error, ConnectionResetError))
        return clean and self._barren == 0 and now_ns - (exchange.t_sent_ns or 0) < CROSSING_NS

    # httptools callbacks, and `on_body`

    def on_message_begin(self) -> None:
        """Stop at a second reply: nobody asked for it. It ends the parsing as an error."""
        if self._complete:
            raise ValueError("bytes behind the reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that are needed; a trailer, behind the body, changes nothing."""
        if self._in_body:
            return
        key = name.lower()
        if key in KEPT:
            setattr(self.exchange, KEPT[key], value.decode("latin-1").strip())
        elif key in (b"content-length", b"transfer-encoding"):
            cast(Exchange, self.exchange).framed = True

    def on_headers_complete(self) -> None:
        """Keep the status, unless it is an interim one: the real reply is still to come."""
        exchange = cast(Exchange, self.exchange)
        status = cast(httptools.HttpResponseParser, self._parser).get_status_code()
        if status >= 200:
            exchange.http_status = status
            exchange.content_type = exchange.content_type.lower()
            exchange.content_encoding = exchange.content_encoding.lower()
            self._in_body = True
        else:
            exchange.framed = False
            exchange.content_type = exchange.content_encoding = ""

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
        self._used = True
        if self._unsent:  # answered before all was sent; nobody will read the rest
            self._shut()
        elif not exchange.framed or not self._keep_alive or self._said_goodbye:
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


def _why(error: OSError | None) -> str:
    return f": {error}" if error else ""
