from __future__ import annotations

import asyncio
import dataclasses
import itertools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from vllm_bench.plan.share import PlannedRequest, Target, Timeouts
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.send import lanes as lanes_module
from vllm_bench.send.closed_loop import ClosedLoop
from vllm_bench.send.lanes import Lane, Lanes
from vllm_bench.send.outbox import Drop
from vllm_bench.wire.connection import Connection
from vllm_bench.wire.opening import open_connection

from tests.support.beside.waiting import wait_until
from tests.support.far_end import (
    CLOSE,
    HANG,
    RESET,
    SSE_HEAD,
    FarEnd,
    Step,
    chunk,
    delta,
    good_stream,
    sse_script,
)

Connect = Callable[[Lane, Target, ssl.SSLContext | None], Awaitable[None]]


def until_lost(connect: Connect) -> Connect:
    """Return a `connect` whose caller is told so late that the server has closed meanwhile."""

    async def connect_slowly(lane: Lane, target: Target, tls: ssl.SSLContext | None) -> None:
        await connect(lane, target, tls)
        while lane.connected:
            await asyncio.sleep(0)

    return connect_slowly


def target_at(port: int) -> Target:
    return Target("127.0.0.1", port, None, "/", (), Timeouts(5, 5, 5), stream=True)


async def ended_by(target_of: Callable[[int], Target], requests: int) -> list[Exchange]:
    """Send to a server that closes each connection at once; return what ended."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    target = target_of(server.sockets[0].getsockname()[1])
    plan = tuple(PlannedRequest(n, f"r-{n}", "p", b"{}", 1) for n in range(requests))
    reported: list[Any] = []
    lanes = Lanes(target, reported.append)
    lanes.add()
    rest = iter(plan)
    loop = ClosedLoop(lanes, lambda: next(rest, None))
    await asyncio.wait_for(loop.run(0), 10)
    server.close()
    return [exchange for _, exchange in reported]


def test_a_connection_that_is_lost_as_soon_as_it_is_open_fails_its_request_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Lane, "connect", until_lost(Lane.connect))
    ended = asyncio.run(ended_by(target_at, 3))
    assert [exchange.request_index for exchange in ended] == [0, 1, 2]
    for exchange in ended:
        assert exchange.failure is not None
        assert exchange.failure.kind == "connect"
        assert exchange.t_sent_ns is None


def test_the_next_request_goes_out_before_the_reply_is_handed_over_and_is_late_from_its_end(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_end.scripts = [sse_script(good_stream())]
    noted: list[tuple[str, int]] = []
    ended: list[Exchange] = []
    send = Connection.send

    def noting(connection: Connection, exchange: Exchange, request: bytes) -> None:
        noted.append(("sent", exchange.request_index))
        send(connection, exchange, request)

    def report(message: Any) -> None:
        _, exchange = message
        noted.append(("reported", exchange.request_index))
        ended.append(exchange)

    monkeypatch.setattr(Connection, "send", noting)

    async def main() -> None:
        lanes = Lanes(target_at(far_end.port), report)
        lanes.add()
        await lanes.connect()
        rest = (PlannedRequest(n, f"r-{n}", "p", b"{}", 3) for n in range(3))
        await asyncio.wait_for(ClosedLoop(lanes, lambda: next(rest, None)).run(0), 10)
        lanes.close()

    asyncio.run(main())
    assert noted == [
        *(("sent", 0), ("sent", 1), ("reported", 0)),
        *(("sent", 2), ("reported", 1), ("reported", 2)),
    ]
    for one, following in itertools.pairwise(ended):
        assert one.failure is None
        assert following.t_scheduled_ns == one.t_end_ns  # when the last byte came
        assert one.t_end_ns <= following.t_sent_ns


async def ended_at(far_end: FarEnd, requests: int, timeouts: Timeouts) -> list[Exchange]:
    """Send to a far end on one lane; return what ended."""
    reported: list[Any] = []
    target = dataclasses.replace(target_at(far_end.port), timeouts=timeouts)
    lanes = Lanes(target, reported.append)
    lanes.add()
    await lanes.connect()
    rest = (PlannedRequest(n, f"r-{n}", "p", b"{}", 3) for n in range(requests))
    await asyncio.wait_for(ClosedLoop(lanes, lambda: next(rest, None)).run(0), 20)
    lanes.close()
    return [message[1] for message in reported if isinstance(message, tuple)]


def test_a_stream_that_has_said_all_is_over_though_its_connection_lingers(far_end: FarEnd) -> None:
    far_end.scripts = [[SSE_HEAD, *map(chunk, good_stream()), HANG]]
    ended = asyncio.run(ended_at(far_end, 2, Timeouts(0.2, 0.2, 60)))  # less than it may linger
    assert [exchange.failure for exchange in ended] == [None, None]
    assert [request.connection for request in far_end.requests] == [1, 2]


@pytest.mark.parametrize("endless", [b": ping\n\n", delta("")], ids=["pings", "empty deltas"])
@pytest.mark.parametrize(
    ("first", "kind"), [(b"", "timeout_first_token"), (delta("a"), "timeout_stall")]
)
def test_what_brings_no_token_holds_no_deadline_off(
    far_end: FarEnd, endless: bytes, first: bytes, kind: str
) -> None:
    pings: list[Step] = [part for _ in range(3000) for part in (chunk(endless), 0.0003)]
    far_end.scripts = [[SSE_HEAD, chunk(first + endless), *pings, HANG]]
    (exchange,) = asyncio.run(ended_at(far_end, 1, Timeouts(0.6, 0.6, 60)))
    assert exchange.failure is not None
    assert exchange.failure.kind == kind


OK: Step = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_request_that_crosses_a_close_goes_once_more_and_never_twice(
    far_end: FarEnd, end: str
) -> None:
    far_end.scripts = [[OK], [end], [OK], [end], [end], [OK]]
    ended = asyncio.run(ended_at(far_end, 4, Timeouts(5, 5, 5)))
    kinds = [exchange.failure and exchange.failure.kind for exchange in ended]
    assert kinds == [None, None, "truncated", None]
    assert [exchange.resent for exchange in ended] == [0, 1, 1, 0]
    assert [exchange.waited_ns > 0 for exchange in ended] == [False, False, False, True]
    ids = [request.headers["x-request-id"] for request in far_end.requests]
    assert ids == ["r-0", "r-1", "r-1", "r-2", "r-2", "r-3"]
    assert ended[1].t_sent_ns is not None
    assert ended[1].t_sent_ns < far_end.requests[1].arrived_ns  # the first send


def test_only_the_request_that_crossed_is_sent_again(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away with the close; what comes next was never sent."""
    far_end.scripts = [[OK], [CLOSE]]
    opened: list[object] = []

    async def once(*how: Any) -> Connection:
        opened.append(how)
        if len(opened) > 1:
            raise ConnectionRefusedError(111, "refused")
        return await open_connection(*how)

    monkeypatch.setattr(lanes_module, "open_connection", once)
    ended = asyncio.run(ended_at(far_end, 4, Timeouts(5, 5, 5)))
    assert [exchange.resent for exchange in ended] == [0, 1, 0, 0]
    assert [e.failure and e.failure.kind for e in ended] == [None, *["connect"] * 3]
    assert [exchange.t_sent_ns is None for exchange in ended] == [False, False, True, True]
    assert len(opened) == 4


def test_a_reply_that_had_begun_is_not_asked_for_again(far_end: FarEnd) -> None:
    far_end.scripts = [[OK], [b"HTTP/1.1 200 OK\r\n", CLOSE], [OK]]
    ended = asyncio.run(ended_at(far_end, 3, Timeouts(5, 5, 5)))
    assert [exchange.resent for exchange in ended] == [0, 0, 0]
    assert len(far_end.requests) == 3


def test_an_exchange_is_dropped_where_the_parent_says_so(far_end: FarEnd) -> None:
    far_end.scripts = [[SSE_HEAD, chunk(delta("a")), HANG], [OK]]

    async def main() -> list[Exchange]:
        reported: list[Any] = []
        lanes = Lanes(target_at(far_end.port), reported.append)
        lanes.add()
        await lanes.connect()
        rest = (PlannedRequest(n, f"r-{n}", "p", b"{}", 3) for n in range(2))
        running = asyncio.ensure_future(ClosedLoop(lanes, lambda: next(rest, None)).run(0))
        while not lanes.replying:
            await asyncio.sleep(0.001)
        lanes.drop(Drop(5, Failure("overlong", "another")))  # one that has ended
        lanes.drop(Drop(0, Failure("overlong", "too long")))
        await asyncio.wait_for(running, 10)
        lanes.close()
        return [exchange for _, exchange in reported]

    dropped, following = asyncio.run(main())
    assert dropped.failure == Failure("overlong", "too long")
    assert dropped.reads == []  # handed over
    assert following.failure is None
    wait_until(lambda: far_end.hung_up == 1)


def test_an_answer_that_is_kept_for_the_next_turn_has_a_bound(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "MOST_KEPT", 500_000)
    far_end.scripts = [[SSE_HEAD, *[chunk(b"x" * 50_000)] * 60, HANG]]

    async def main() -> list[Exchange]:
        ended: list[Exchange] = []
        lanes = Lanes(target_at(far_end.port), lambda _: None)
        lane = lanes.add()
        await lanes.connect()
        lanes.on_free = lambda _lane, exchange, _ns: ended.append(exchange)
        lane.kept = bytearray()
        lanes.send(lane, PlannedRequest(0, "r-0", "p", b"{}", 3), 0)
        while not ended:
            await asyncio.sleep(0.001)
        lanes.close()
        return ended

    (exchange,) = asyncio.run(asyncio.wait_for(main(), 10))
    assert exchange.failure is not None
    assert exchange.failure.kind == "oversized"
