from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from vllm_bench.plan.share import PlannedRequest, Target, Timeouts
from vllm_bench.reply.exchange import Exchange
from vllm_bench.send.closed_loop import ClosedLoop
from vllm_bench.send.lanes import Lane, Lanes
from vllm_bench.wire.connection import Connection

from tests.support.far_end import FarEnd, good_stream, sse_script

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
