"""A proxy that buffers streams, as a gateway does that wasn't told not to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

LAST_CHUNK = b"0\r\n\r\n"


class BufferingProxy:
    """Listens on a free port of this machine in front of another one, in threads."""

    def __init__(self, port: int, most_bytes: int) -> None:
        """Stand in front of a port; hold a stream until it ended or has `most_bytes`."""
        self._port = port
        self._most = most_bytes
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._open: list[socket.socket] = []

    def __enter__(self) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
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
                server = socket.create_connection(("127.0.0.1", self._port))
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

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
