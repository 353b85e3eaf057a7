"""Opening a connection: the address, the socket, the handshake of TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ..reply.exchange import Exchange
from .clock import ask_for_stamps
from .connection import Connection
from .secure import SecureConnection
from .streams import READ_BYTES, Streams
from .tls import Tls


async def open_connection(
    streams: Streams,
    at: tuple[str, int],
    tls: ssl.SSLContext | None,
    on_end: Callable[[Exchange], None],
    on_full: Callable[[Exchange], None] | None = None,
) -> Connection:
    """Open a connection to a host's port. Raises OSError."""
    sock = await _connected(*at, streams)
    try:
        secure = None if tls is None else await _shaken(sock, Tls(tls, at[0]))
    except BaseException:  # given up meanwhile, too
        sock.close()
        raise
    if secure is None:
        return Connection(sock, streams, on_end, on_full)
    return SecureConnection(secure, sock, streams, on_end, on_full)


async def _connected(host: str, port: int, streams: Streams) -> socket.socket:
    """Return a connected socket: of the host's addresses, the first that accepts."""
    problems: list[OSError] = []
    for family, kind, protocol, _, address in await _addresses(host, port):
        try:
            return await _connected_to(family, kind, protocol, address, streams)
        except OSError as e:
            # Loops have words of their own: "Connect call failed".
            problems.append(OSError(e.errno, os.strerror(e.errno)) if e.errno else e)
    words = list(dict.fromkeys(map(str, problems)))
    raise problems[0] if len(words) == 1 else OSError("; ".join(words))


async def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    """Return what getaddrinfo says; a name may have to be asked for, which takes time."""
    try:
        return list(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        )
    except socket.gaierror:  # a name
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _connected_to(
    family: int, kind: int, protocol: int, address: Any, streams: Streams
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a write goes out at once
        ask_for_stamps(sock)
        began_ns = time.perf_counter_ns()  # its first packet is about to leave
        await asyncio.get_running_loop().sock_connect(sock, address)
        streams.trips_ns.append(time.perf_counter_ns() - began_ns)  # the answer was seen
    except BaseException:
        sock.close()
        raise
    return sock


async def _shaken(sock: socket.socket, tls: Tls) -> Tls:
    loop, done = asyncio.get_running_loop(), tls.shake_hands()
    while not done:
        await loop.sock_sendall(sock, tls.to_send())
        data = await loop.sock_recv(sock, READ_BYTES)
        if not data:
            raise ConnectionResetError("closed during the TLS handshake")
        done = tls.shake_hands(data)
    await loop.sock_sendall(sock, tls.to_send())
    return tls
