"""Whatever bytes come: no exception, one end for each exchange, and no memory without a bound."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.wire.connection import FULL_READS, MOST_BARREN_BYTES, Connection

pytestmark = pytest.mark.fuzz

HEADS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\nlocation: /there\ncontent-length: 0\n\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx:\r\n  folded\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
)
BODIES = (
    b'1a\r\ndata: {"choices":[{"d":1}]}\n\n\r\n',
    b"5;name=value\r\nhello\r\n",
    b"0\r\nContent-Type: text/html\r\nx: y\r\n\r\n",
    b"0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFFF\r\n",
    b"hello",
    b"\r\n",
    b"\x00\xff\xfe",
    b"x" * 3000,
)
Wild = st.one_of(st.sampled_from(HEADS), st.sampled_from(BODIES), st.binary(max_size=60))


@dataclass
class NoSockets:
    """In place of the set of sockets."""

    held: list[int] = field(default_factory=list)

    def add(self, sock: socket.socket, _: object) -> None:
        self.held.append(sock.fileno())

    def drop(self, sock: socket.socket) -> None:
        self.held.remove(sock.fileno())

    def await_writable(self, sock: socket.socket, wanted: bool) -> None:
        """Nothing waits."""


@st.composite
def cut_bytes(draw: st.DrawFn) -> list[bytes]:
    """A reply or several, with some of its bytes changed, in pieces."""
    data = bytearray(b"".join(draw(st.lists(Wild, min_size=1, max_size=8))))
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4)
    ):
        if data:
            data[place % len(data)] = byte
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


ENDS = (None, ConnectionResetError(104, "reset"), OSError(110, "timed out"))


@given(cut_bytes(), st.sampled_from(ENDS), st.booleans())
@example([HEADS[1] + b"hello" + HEADS[1] + b"hello"], None, False)
@example([HEADS[0], b"0\r\n" + b"x: y\r\n" * 60_000], None, False)
@example([b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000], None, False)
@example([HEADS[0], b"1;" + b"e" * 400_000], None, False)
@example([HEADS[0], b"1\r\na\r\n" * 100_000], None, False)
def test_each_exchange_ends_once_and_holds_little(
    pieces: list[bytes], end: OSError | None, gives_up: bool
) -> None:
    near, far = socket.socketpair()
    streams = NoSockets()
    ended: list[Exchange] = []
    handed_over: list[int] = []
    most_held = 0
    connection = Connection(
        near,
        streams,  # type: ignore[arg-type]
        ended.append,
        lambda exchange: handed_over.append(len(exchange.hand_over().reads)),
    )
    sent = 0
    for piece in pieces:
        if connection.usable:
            connection.send(Exchange(sent, 0, t_scheduled_ns=0), b"")
            sent += 1
        for start in range(0, len(piece), 65536):
            if streams.held:  # as the set of sockets does
                connection.received(piece[start : start + 65536], start, start + 1)
            if connection.exchange is not None:
                most_held = max(most_held, connection.exchange.held_bytes)
                assert len(connection.exchange.reads) < FULL_READS
                assert connection._barren <= MOST_BARREN_BYTES
    if gives_up:
        connection.abort(Failure("cancelled", "cut off"))
    elif streams.held:
        connection.lost(end)
    assert connection.exchange is None
    assert [exchange.request_index for exchange in ended] == list(range(sent))
    assert all(exchange.t_end_ns is not None for exchange in ended)
    assert not connection.usable
    assert most_held < 2_000_000
    connection.close()
    assert streams.held == []
    far.close()
