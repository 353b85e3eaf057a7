"""The set of sockets: whose bytes come with which stamp, however late they are read."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
import uvloop
from vllm_bench.wire import clock, streams
from vllm_bench.wire.clock import ask_for_stamps
from vllm_bench.wire.streams import Streams

from tests.support.beside.waiting import LIMIT_S

MS = 1_000_000


@dataclass
class Heard:
    """A stream that notes what it is told."""

    sock: socket.socket
    reads: list[tuple[bytes, int, int]] = field(default_factory=list)
    ends: list[OSError | None] = field(default_factory=list)
    on_read: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.recvmsg = self.sock.recvmsg

    def received(self, data: bytes, stamp_ns: int, own_ns: int) -> None:
        self.reads.append((data, stamp_ns, own_ns))
        self.on_read()

    def writable(self) -> None:
        raise AssertionError("nobody asked")

    def lost(self, error: OSError | None) -> None:
        self.ends.append(error)


@dataclass
class Pair:
    """A connection over the loopback: the far end, and the near one as it was opened here."""

    far: socket.socket
    near: socket.socket


Connect = Callable[[], Pair]


@pytest.fixture(params=["127.0.0.1", "::1"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    opened: list[socket.socket] = []
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    listener = socket.create_server((request.param, 0), family=family)

    def pair() -> Pair:
        near = socket.socket(family)
        ask_for_stamps(near)
        near.connect(listener.getsockname())
        near.setblocking(False)
        far, _ = listener.accept()
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.extend((near, far))
        return Pair(far, near)

    yield pair
    for sock in (*opened, listener):
        sock.close()


def run(main: Callable[[Streams], Awaitable[None]]) -> None:
    async def with_streams() -> None:
        found = Streams()
        await main(found)
        found.close()

    loop = uvloop.new_event_loop()
    loop.run_until_complete(with_streams())
    loop.close()


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), LIMIT_S)


def test_a_read_that_is_late_tells_when_its_bytes_came(connect: Connect) -> None:
    pair = connect()
    heard = Heard(pair.near)

    async def main(found: Streams) -> None:
        found.add(pair.near, heard)
        before_ns = time.perf_counter_ns()
        pair.far.send(b"x")
        time.sleep(0.2)  # the loop is busy
        await until(lambda: heard.reads)
        ((data, stamp_ns, own_ns),) = heard.reads
        assert data == b"x"
        assert before_ns - clock.STEP_NS <= stamp_ns
        assert own_ns - stamp_ns > 100 * MS
        assert found.clock.kernel

    run(main)


def test_what_is_queued_carries_the_stamp_of_its_last_packet_in_every_part(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "READ_BYTES", 200)
    pair = connect()
    heard = Heard(pair.near)

    async def main(found: Streams) -> None:
        found.add(pair.near, heard)
        pair.far.send(b"a" * 300)
        time.sleep(0.05)
        between_ns = time.perf_counter_ns()
        time.sleep(0.05)
        pair.far.send(b"b" * 300)
        await until(lambda: len(heard.reads) == 3)
        assert [len(data) for data, *_ in heard.reads] == [200] * 3
        (stamp_ns,) = {stamp_ns for _, stamp_ns, _ in heard.reads}
        assert stamp_ns > between_ns  # the first packet's own arrival can't be told any more

    run(main)


def test_without_the_kernels_stamps_a_read_is_stamped_when_it_is_made(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "SO_TIMESTAMPNS", -1)
    pair = connect()
    heard = Heard(pair.near)

    async def main(found: Streams) -> None:
        found.add(pair.near, heard)
        pair.far.send(b"x")
        await until(lambda: heard.reads)
        ((_, stamp_ns, own_ns),) = heard.reads
        assert stamp_ns == own_ns
        assert found.clock.end().why == "no stamp"

    run(main)


@pytest.mark.parametrize("make", [streams._new_set, streams._OtherSet])
def test_the_ends_of_a_connection_come_after_its_bytes(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]
) -> None:
    monkeypatch.setattr(streams, "_new_set", make)
    ended, broken = connect(), connect()
    heard = [Heard(pair.near) for pair in (ended, broken)]

    async def main(found: Streams) -> None:
        for stream in heard:
            found.add(stream.sock, stream)
            stream.on_read = lambda: None
        ended.far.send(b"x")
        ended.far.shutdown(socket.SHUT_WR)
        broken.near.send(b"unread")  # what isn't read makes a close a reset
        time.sleep(0.01)
        broken.far.close()
        await until(lambda: all(stream.ends for stream in heard))
        for stream in heard:
            found.drop(stream.sock)

    run(main)
    assert [data for data, *_ in heard[0].reads] == [b"x"]
    assert heard[0].ends[0] is None
    assert isinstance(heard[1].ends[0], ConnectionResetError)


def test_a_stream_that_was_dropped_in_the_same_batch_is_told_nothing(connect: Connect) -> None:
    pairs = [connect(), connect()]
    heard = [Heard(pair.near) for pair in pairs]

    async def main(found: Streams) -> None:
        for stream, other in zip(heard, reversed(heard), strict=True):
            found.add(stream.sock, stream)
            stream.on_read = lambda other=other: found.drop(other.sock)  # type: ignore[misc]
        for pair in pairs:
            pair.far.send(b"x")
        await until(lambda: any(stream.reads for stream in heard))
        await asyncio.sleep(0.01)

    run(main)
    assert sorted(len(stream.reads) for stream in heard) == [0, 1]
