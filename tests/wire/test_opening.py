"""Opening a connection: names and addresses, what is refused, and what is given up."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from vllm_bench.wire.connection import Connection
from vllm_bench.wire.opening import open_connection
from vllm_bench.wire.streams import Streams

from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import FarEnd


def opened(
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    within_s: float = LIMIT_S,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    async def main() -> None:
        streams = Streams()
        opening = open_connection(streams, (host, port), tls, print)
        connection = await asyncio.wait_for(opening, within_s)
        assert isinstance(connection, Connection)
        assert connection.usable
        connection.close()
        streams.close()
        await asyncio.sleep(0.02)  # the far end has time to accept it, and to see it closed

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def counting(asked: list[str]) -> Callable[..., list[Any]]:
    """A getaddrinfo that notes which names it is asked for, on whichever thread."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *how: Any, **more: Any) -> list[Any]:
        if more.get("flags", 0) & socket.AI_NUMERICHOST == 0:
            asked.append(host)
        return real(host, *how, **more)

    return getaddrinfo


def test_a_name_is_looked_up_and_its_addresses_are_tried_in_turn(far_end: FarEnd) -> None:
    opened("localhost", far_end.port)  # perhaps ::1 first, where nobody listens


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", counting(asked))
    with FarEnd(host=host) as server:
        opened(host, server.port, new_loop=asyncio.new_event_loop)  # it asks through `socket`
        assert asked == []
        with suppress(OSError):
            opened("localhost", server.port, new_loop=asyncio.new_event_loop)
        assert asked == ["localhost"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refusal_is_told_as_the_system_says_it(host: str) -> None:
    with pytest.raises(OSError, match="refused"):
        opened(host, free_port())


def test_a_host_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(OSError, match=r"\S"):
        opened("no-such-host.invalid", 80)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_without_tls_fails_the_handshake(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        at = server.sockets[0].getsockname()[:2]
        with pytest.raises(OSError, match=r"\S"):
            await open_connection(Streams(), at, ssl.create_default_context(), print)
        server.close()

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))


def test_a_handshake_that_is_given_up_leaves_no_socket(far_end: FarEnd) -> None:
    # The far end waits for the end of an HTTP head, and says nothing meanwhile.
    with pytest.raises(asyncio.TimeoutError):
        opened(far_end.host, far_end.port, ssl.create_default_context(), within_s=0.1)
