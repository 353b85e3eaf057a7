"""Connections between machines: the head's door, and how a foreman comes through it.

They are those of `multiprocessing`, over TCP: both sides prove that they know the run's key (HMAC),
and then pickles are exchanged, so whoever has the key can do what the user can. Nothing is
encrypted: this is for a network that is trusted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from multiprocessing.connection import Connection as Pipe
from queue import SimpleQueue

from .messages import Hello, Kind, MachineFacts

KINDS: tuple[Kind, ...] = ("orders", "results", "clock")
Came = tuple[Hello, Pipe]


def dial(
    address: tuple[str, int], key: bytes, foreman: str, facts: MachineFacts
) -> dict[Kind, Pipe]:
    """Open a foreman's connections to the head. Raises OSError, AuthenticationError."""
    opened: dict[Kind, Pipe] = {}
    for kind in KINDS:
        connection = Client(address, authkey=key)
        _keep_alive(connection, prompt=kind != "results")
        connection.send(Hello(kind, foreman, facts))
        opened[kind] = connection
    return opened


def _keep_alive(connection: Pipe, *, prompt: bool) -> None:
    """Have the kernel notice a lost machine; `prompt`: don't gather small messages either."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, prompt)


def key_of(text: bytes) -> bytes:
    """Return the key of a text: its first line, or the bytes that it has hexadecimal digits of."""
    line = text.partition(b"\n")[0].strip()
    try:
        return bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return line


class Door:
    """Where foremen knock; closed once all of them are in."""

    def __init__(self, host: str, port: int, key: bytes) -> None:
        """Listen. Raises OSError."""
        self._listener = Listener((host, port), authkey=key, backlog=128)
        self.came: SimpleQueue[Came] = SimpleQueue()
        self.turned_away = 0  # who didn't know the key
        self._closed = False
        threading.Thread(target=self._open_to_all, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it is: with the port that was free."""
        host, port = self._listener.address
        return str(host), int(port)

    def _open_to_all(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
                hello = connection.recv()
            except AuthenticationError:
                self.turned_away += 1
                continue
            except (OSError, EOFError):
                continue  # somebody left; or the door was closed
            _keep_alive(connection, prompt=hello.kind != "results")
            self.came.put((hello, connection))

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        with contextlib.suppress(OSError):  # wake the thread that waits for the next
            socket.create_connection(self.address, timeout=1).close()
        self._listener.close()


@contextlib.contextmanager
def open_door(host: str, port: int, key: bytes) -> Iterator[Door]:
    """Let foremen in inside the block. Raises OSError."""
    door = Door(host, port, key)
    try:
        yield door
    finally:
        door.close()
