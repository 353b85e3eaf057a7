"""HTTP/1.1 as servers and proxies really send it, each oddity a literal."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator

import pytest
import trustme
import uvloop
from vllm_bench.reply.exchange import Exchange, Failure, Segment
from vllm_bench.wire import clock, streams
from vllm_bench.wire import connection as connection_module
from vllm_bench.wire.connection import FULL_BYTES, FULL_READS, Connection
from vllm_bench.wire.opening import open_connection
from vllm_bench.wire.streams import Streams

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    SSE_HEAD,
    FarEnd,
    Step,
    chunk,
)

REQUEST = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\n"
TRUSTING: dict[int, ssl.SSLContext] = {}  # by the far end's port: how its certificate is verified


@pytest.fixture(params=["http", "https", "http by its own clock", "http without epoll"])
def far_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarEnd]:
    """A server that plays bytes, reached in each way that there is."""
    server = FarEnd()
    if request.param == "https":
        authority = trustme.CA()
        server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(server.host).configure_cert(server.tls)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        TRUSTING[server.port] = trusting
    elif request.param == "http by its own clock":
        monkeypatch.setattr(clock, "SO_TIMESTAMPNS", -1)
    elif request.param == "http without epoll":
        monkeypatch.setattr(streams, "_new_set", streams._OtherSet)
    with server:
        yield server
    TRUSTING.clear()


async def exchange_on(connection: Connection, ended: asyncio.Queue[Exchange]) -> Exchange:
    connection.send(Exchange(0, 0, t_scheduled_ns=time.perf_counter_ns()), REQUEST)
    return await asyncio.wait_for(ended.get(), LIMIT_S)


async def connect(far_end: FarEnd) -> tuple[Connection, asyncio.Queue[Exchange]]:
    ended: asyncio.Queue[Exchange] = asyncio.Queue()
    at = (far_end.host, far_end.port)
    return await open_connection(Streams(), at, TRUSTING.get(far_end.port), ended.put_nowait), ended


def run(far_end: FarEnd, *scripts: list[Step], requests: int = 1) -> tuple[list[Exchange], bool]:
    """Play the scripts to that many requests on one connection; was it usable afterwards?"""
    far_end.scripts = list(scripts)

    async def main() -> tuple[list[Exchange], bool]:
        connection, ended = await connect(far_end)
        exchanges = [await exchange_on(connection, ended) for _ in range(requests)]
        usable = connection.usable
        connection.close()
        await asyncio.sleep(0)
        return exchanges, usable

    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def body(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.reads)


@pytest.mark.parametrize(
    ("script", "usable"),
    [
        ([OK + b"Content-Length: 5\r\n\r\nhello"], True),
        ([OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"], False),
        ([OK + b"transfer-encoding: chunked\r\n\r\n" + chunk(b"hello") + LAST_CHUNK], True),
        (
            [OK + b"Transfer-ENCODING: chunked\r\n\r\n5;ext=1\r\nhel", 0.01, b"lo\r\n0\r\n\r\n"],
            True,
        ),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello"], True),
        (
            [
                b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
                0.01,
                OK,
                b"content-length: 5\r\n\r\nhello",
            ],
            True,
        ),
        ([OK + b"\r\nhel", 0.01, b"lo", CLOSE], False),  # no framing: the end is the end
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"], False),
        ([*(bytes([b]) for b in OK + b"content-length: 5\r\n\r\nhello")], True),
        ([OK.replace(b"\r", b"") + b"content-length: 5\n\nhello"], True),  # lone LF
        ([SSE_HEAD + b"5   \r\nhello\r\n0  \r\n\r\n"], True),
        ([OK + b"transfer-encoding: chunked\r\n\r\n5;a=b;c\r\nhello\r\n0;z\r\nx: y\r\n\r\n"], True),
        (
            [b"HTTP/1.1 103 Early Hints\r\ncontent-length: 0\r\n\r\n" + OK + b"\r\nhello", CLOSE],
            False,
        ),
        ([OK + b"content-length: 5\r\n\r\nhello" + OK + b"content-length: 2\r\n\r\nno"], False),
        ([OK + b"content-length: 5\r\n\r\nhelloHTTP/9"], False),  # something behind it
    ],
)
def test_a_reply_is_whole_however_it_is_framed(
    far_end: FarEnd, script: list[Step], usable: bool
) -> None:
    (exchange,), was_usable = run(far_end, script)
    assert (exchange.http_status, body(exchange), exchange.failure) == (200, b"hello", None)
    assert was_usable is usable


def test_a_connection_is_kept_for_the_next_request(far_end: FarEnd) -> None:
    run(far_end, [OK + b"content-length: 2\r\n\r\nok"], requests=3)
    assert [r.connection for r in far_end.requests] == [1, 1, 1]


def test_headers_that_say_how_to_read_the_body_are_kept(far_end: FarEnd) -> None:
    head = b"CONTENT-Type: Text/Event-Stream\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n"
    (exchange,), _ = run(far_end, [OK + head])
    assert (exchange.content_type, exchange.content_encoding) == ("text/event-stream", "gzip")


def test_a_trailer_and_an_interim_reply_change_nothing(far_end: FarEnd) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\ncontent-encoding: br\r\n\r\n"
    trailer = b"0\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nx: y\r\n\r\n"
    (exchange,), usable = run(far_end, [early + SSE_HEAD, chunk(b"hello"), trailer])
    assert (exchange.failure, body(exchange), usable) == (None, b"hello", True)
    assert exchange.content_type == "text/event-stream; charset=utf-8"
    assert exchange.content_encoding == ""


def test_where_a_redirect_points_to_and_when_to_come_again_are_kept(far_end: FarEnd) -> None:
    head = b"Location: https://Else/where \r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n"
    (exchange,), _ = run(far_end, [b"HTTP/1.1 307 Temporary Redirect\r\n" + head])
    assert (exchange.location, exchange.retry_after) == ("https://Else/where", "7")


HEADER = b"x-%d: " + b"y" * 1000 + b"\r\n"


@pytest.mark.parametrize(
    "endless",
    [
        [OK, *(HEADER % n for n in range(400))],
        [OK + b"x: ", b"y" * 400_000],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100] * 120,
        [SSE_HEAD + b"1;", b"e" * 400_000],
        [SSE_HEAD, chunk(b"x"), b"0\r\n", *(HEADER % n for n in range(400))],
    ],
    ids=["headers", "a header", "interim replies", "a chunk's extension", "trailers"],
)
def test_what_has_no_end_and_is_no_body_is_a_failure_of_its_own(
    far_end: FarEnd, endless: list[Step]
) -> None:
    (exchange,), usable = run(far_end, [*endless, HANG])
    assert exchange.failure is not None
    assert exchange.failure.kind == "oversized"
    assert not usable


@pytest.mark.parametrize("size", [100, 5_000, 60_000])
def test_what_was_read_is_handed_over_by_number_and_by_size(far_end: FarEnd, size: int) -> None:
    far_end.scripts = [[SSE_HEAD, *[chunk(b"x" * size)] * 300, LAST_CHUNK]]
    parts: list[Segment] = []

    async def main() -> Exchange:
        ended: asyncio.Queue[Exchange] = asyncio.Queue()
        connection = await open_connection(
            Streams(),
            (far_end.host, far_end.port),
            TRUSTING.get(far_end.port),
            ended.put_nowait,
            lambda exchange: parts.append(exchange.hand_over()),
        )
        exchange = await exchange_on(connection, ended)
        connection.close()
        return exchange

    loop = uvloop.new_event_loop()
    parts.append(loop.run_until_complete(main()).hand_over())
    loop.close()
    assert sum(len(data) for part in parts for _, data in part.reads) == 300 * size
    for part in parts:
        assert len(part.reads) <= FULL_READS + 65536 // size  # one read may bring several chunks
        held = sum(len(data) for _, data in part.reads)
        assert held <= part.read_bytes < FULL_BYTES + 65536 * 2


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_connection_that_closes_under_a_request_has_crossed_it_if_it_had_been_used(
    far_end: FarEnd, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CROSSING_NS", int(LIMIT_S * 1e9))
    ok: Step = OK + b"content-length: 2\r\n\r\nok"
    for scripts, crossed in (
        ([[ok], [end]], True),
        ([[end]], False),  # never used
        ([[ok], [b"H", 0.01, end]], False),  # something had come
        ([[ok], [b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, end]], False),
    ):
        far_end.scripts = scripts

        async def main(requests: int) -> bool:
            connection, ended = await connect(far_end)
            for _ in range(requests):
                exchange = await exchange_on(connection, ended)
            assert exchange.failure is not None
            assert exchange.failure.kind == "truncated"
            return connection.crossed

        loop = uvloop.new_event_loop()
        assert loop.run_until_complete(main(len(scripts))) is crossed
        loop.close()


def test_a_server_that_closes_long_after_the_request_had_it(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CROSSING_NS", 10_000_000)
    far_end.scripts = [[OK + b"content-length: 2\r\n\r\nok"], [0.05, CLOSE]]

    async def main() -> bool:
        connection, ended = await connect(far_end)
        for _ in range(2):
            await exchange_on(connection, ended)
        return connection.crossed

    loop = uvloop.new_event_loop()
    assert loop.run_until_complete(main()) is False
    loop.close()


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ([RESET], "truncated", "before any reply"),
        ([CLOSE], "truncated", "before any reply"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE], "truncated", "before any reply"),
        ([OK + b"content-length: 9\r\n\r\nhel", CLOSE], "truncated", "in mid-reply"),
        ([SSE_HEAD, chunk(b"x"), CLOSE], "truncated", "in mid-reply"),
        ([SSE_HEAD, chunk(b"x"), 0.01, RESET], "truncated", "in mid-reply"),
        ([b"SSH-2.0-OpenSSH\r\n"], "protocol", "not HTTP/1.1"),
        ([OK + b"transfer-encoding: chunked\r\n\r\nZZ\r\n"], "protocol", "not HTTP/1.1"),
    ],
)
def test_a_reply_that_breaks_off_is_a_failure_with_a_kind(
    far_end: FarEnd, script: list[Step], kind: str, words: str
) -> None:
    (exchange,), usable = run(far_end, script)
    assert exchange.failure is not None
    assert exchange.failure.kind == kind
    assert words in exchange.failure.text
    assert not usable


def test_what_came_before_a_break_is_kept(far_end: FarEnd) -> None:
    (exchange,), _ = run(far_end, [SSE_HEAD, chunk(b"one"), 0.02, chunk(b"two"), RESET])
    assert b"one" in body(exchange)
    assert exchange.http_status == 200


def test_a_reply_before_the_request_is_fully_sent_ends_the_connection(far_end: FarEnd) -> None:
    far_end.read_body = False
    far_end.scripts = [[b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno", HANG]]

    async def main() -> tuple[Exchange, bool]:
        connection, ended = await connect(far_end)
        # More than the sockets hold while the far end reads nothing.
        huge = REQUEST.replace(b"length: 2", b"length: 64000000") + b"x" * 64_000_000
        connection.send(Exchange(0, 0, t_scheduled_ns=0), huge)
        exchange = await asyncio.wait_for(ended.get(), LIMIT_S)
        return exchange, connection.usable

    loop = uvloop.new_event_loop()
    exchange, usable = loop.run_until_complete(main())
    loop.close()
    assert (exchange.http_status, body(exchange), usable) == (413, b"no", False)


def test_a_request_that_the_socket_takes_only_in_parts_arrives_whole(far_end: FarEnd) -> None:
    far_end.scripts = [[OK + b"content-length: 2\r\n\r\nok"]]
    sent = bytes(range(256)) * 40_000

    async def main() -> None:
        connection, ended = await connect(far_end)
        request = REQUEST.replace(b"length: 2", b"length: %d" % len(sent))[:-2] + sent
        for _ in range(2):
            connection.send(Exchange(0, 0, t_scheduled_ns=0), request)
            exchange = await asyncio.wait_for(ended.get(), LIMIT_S)
            assert (exchange.failure, body(exchange)) == (None, b"ok")
            assert connection.usable
        connection.close()

    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert [request.body == sent for request in far_end.requests] == [True, True]
    assert {request.connection for request in far_end.requests} == {1}


def test_stamps_are_in_order_and_never_before_the_send(far_end: FarEnd) -> None:
    pieces: list[Step] = [p for i in range(20) for p in (chunk(b"%d" % i), 0.001)]
    (exchange,), _ = run(far_end, [SSE_HEAD, *pieces, LAST_CHUNK])
    stamps = [stamp for stamp, _ in exchange.reads]
    assert stamps == sorted(stamps)
    assert exchange.t_sent_ns is not None
    assert exchange.t_end_ns is not None
    assert exchange.t_scheduled_ns <= exchange.t_sent_ns <= stamps[0]
    assert exchange.t_end_ns >= stamps[-1]
    # The far end has read the whole request after it was sent, and before the first byte came.
    assert exchange.t_sent_ns <= far_end.requests[0].arrived_ns <= stamps[0]


def test_an_abort_ends_the_exchange_and_the_server_sees_it(far_end: FarEnd) -> None:
    far_end.scripts = [[SSE_HEAD, chunk(b"x"), HANG]]

    async def main() -> Exchange:
        connection, ended = await connect(far_end)
        connection.send(Exchange(0, 0, t_scheduled_ns=0), REQUEST)
        while connection.exchange is not None and not connection.exchange.reads:
            await asyncio.sleep(0.001)
        connection.abort(Failure("cancelled", "cut"))
        return await asyncio.wait_for(ended.get(), LIMIT_S)

    loop = uvloop.new_event_loop()
    exchange = loop.run_until_complete(main())
    loop.close()
    assert exchange.failure == Failure("cancelled", "cut")
    wait_until(lambda: far_end.hung_up)


def test_an_ipv6_far_end_is_reached() -> None:
    with FarEnd([OK + b"content-length: 2\r\n\r\nok"], host="::1") as server:
        (exchange,), _ = run(server, server.scripts[0])
    assert exchange.http_status == 200


def test_a_goodbye_without_a_fin_ends_the_connection(far_end: FarEnd) -> None:
    """Of TLS, asyncio's servers wait for its answer before they close."""
    far_end.scripts = [[OK + b"content-length: 2\r\n\r\nok", CLOSE]]

    async def main() -> None:
        connection, ended = await connect(far_end)
        exchange = await exchange_on(connection, ended)
        assert exchange.failure is None
        while connection.usable:
            await asyncio.sleep(0.001)

    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(main(), LIMIT_S))
    loop.close()


def test_what_an_idle_connection_is_told_of_tls_alone_does_not_end_it(far_end: FarEnd) -> None:
    far_end.scripts = [[OK + b"content-length: 2\r\n\r\nok"]]

    async def main() -> None:
        connection, ended = await connect(far_end)
        await asyncio.sleep(0.05)  # session tickets come
        for _ in range(3):
            assert connection.usable
            assert (await exchange_on(connection, ended)).failure is None
        connection.close()

    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def test_bytes_that_nobody_asked_for_end_a_connection(far_end: FarEnd) -> None:
    far_end.scripts = [[OK + b"content-length: 2\r\n\r\nok", 0.05, OK, HANG]]

    async def main() -> None:
        connection, ended = await connect(far_end)
        assert (await exchange_on(connection, ended)).failure is None
        while connection.usable:
            await asyncio.sleep(0.001)

    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(main(), LIMIT_S))
    loop.close()


def test_how_late_each_read_was_stands_beside_it(far_end: FarEnd) -> None:
    pieces: list[Step] = [p for i in range(5) for p in (chunk(b"%d" % i), 0.005)]
    (exchange,), _ = run(far_end, [SSE_HEAD, *pieces, LAST_CHUNK])
    assert len(exchange.lates_ns) == len(exchange.reads)
    own = clock.SO_TIMESTAMPNS == -1
    assert all((late == 0) if own else (late > 0) for late in exchange.lates_ns)
