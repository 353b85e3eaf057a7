"""Proxies: one buffers streams, as a gateway does that wasn't told not to; one asks in turn."""

from __future__ import annotations

import itertools
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress

LAST_CHUNK = b"0\r\n\r\n"
METHODS = (b"GET ", b"POST ")


class _Proxy(ABC):
    """Listens on a free port of this machine, in threads."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._open: list[socket.socket] = []

    def __enter__(self) -> int:
        self._begin(self._accept)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):  # the other side has hung up already
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                self._serve(self._kept(client))

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Stand between a client and what answers it."""

    def _server(self, port: int) -> socket.socket:
        return self._kept(socket.create_connection(("127.0.0.1", port)))

    def _kept(self, sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(sock)
        return sock

    def _begin(self, work: Callable[..., None], *of: object) -> None:
        threading.Thread(target=work, args=of, daemon=True).start()


class BufferingProxy(_Proxy):
    """Holds a stream until it ended or has a number of bytes."""

    def __init__(self, port: int, most_bytes: int) -> None:
        """Stand in front of a port of this machine."""
        super().__init__()
        self._port = port
        self._most = most_bytes

    def _serve(self, client: socket.socket) -> None:
        server = self._server(self._port)
        self._begin(self._ask, client, server)
        self._begin(self._answer, client, server)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        held, streams = b"", False
        with suppress(OSError):
            while data := server.recv(65536):
                if not held and data.startswith(b"HTTP/"):
                    streams = b"transfer-encoding: chunked" in data.partition(b"\r\n\r\n")[0]
                held += data
                if not streams or held.endswith(LAST_CHUNK) or len(held) >= self._most:
                    client.sendall(held)
                    held = b""
            client.sendall(held)
            client.shutdown(socket.SHUT_WR)


class InTurnProxy(_Proxy):
    """Gives each request to the next of several servers, as a balancer does."""

    def __init__(self, ports: Sequence[int]) -> None:
        """Stand in front of these ports of this machine."""
        super().__init__()
        self._turns = itertools.cycle(ports)

    def _serve(self, client: socket.socket) -> None:
        self._begin(self._ask, client)

    def _ask(self, client: socket.socket) -> None:
        servers: dict[int, socket.socket] = {}
        port = next(self._turns)
        with suppress(OSError):
            while data := client.recv(65536):
                if data.startswith(METHODS):  # a client sends the next one after the answer
                    port = next(self._turns)
                if port not in servers:
                    servers[port] = self._server(port)
                    self._begin(self._answer, client, servers[port])
                servers[port].sendall(data)
        for server in servers.values():
            with suppress(OSError):  # it has hung up already
                server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
