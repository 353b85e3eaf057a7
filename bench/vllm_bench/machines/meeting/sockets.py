"""What the connections between machines are set to, and how they are cut."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from threading import Timer

# A machine that has gone without a word is noticed by the kernel too: s, s, times.
KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


def set_up(pipe: Pipe, *, prompt: bool, limit_s: float | None = None) -> None:
    """Have the kernel notice a lost machine; `prompt`: don't gather small messages either.

    `limit_s`: a write that gets no byte away for so long raises BlockingIOError.
    """
    with _socket_of(pipe) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE:
            if hasattr(socket, name):  # not on macOS
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, prompt)
        if limit_s is not None:
            span = struct.pack("ll", int(limit_s), 0)  # a timeval
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)


def cut(pipe: Pipe) -> None:
    """End a connection for both sides, whoever waits for it; it isn't closed yet.

    So its number stays taken: another thread may be about to read from it.
    """
    with suppress(OSError), _socket_of(pipe) as sock:
        sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_after(pipe: Pipe, limit_s: float) -> Iterator[None]:
    """Cut a connection where the block takes longer than this."""
    late = Timer(limit_s, cut, [pipe])
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


@contextmanager
def _socket_of(pipe: Pipe) -> Iterator[socket.socket]:
    """Lend a connection's own socket: where files have run out, there is none for a copy of it."""
    sock = socket.socket(fileno=pipe.fileno())
    try:
        yield sock
    finally:
        sock.detach()
