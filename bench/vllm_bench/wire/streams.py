"""All sockets of a sending process, in one epoll set that the loop watches as one file.

A loop that watches each socket by itself costs more a read, and gives no stamps. The set is
level-triggered: what isn't read now is told again. It goes round by itself, so no socket waits for
ever behind the others.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import time
from array import array
from typing import Protocol

from .clock import CONTROL_SPACE, Clock, Control

READABLE, WRITABLE = 1, 4  # EPOLLIN, EPOLLOUT
AT_ONCE = 256  # sockets in one batch; then the loop has its turn
READ_BYTES = 65536


class Stream(Protocol):
    """What the set tells about a socket. `recvmsg` is the socket's own."""

    def recvmsg(self, size: int, space: int, /) -> tuple[bytes, Control, int, object]: ...

    def received(self, data: bytes, stamp_ns: int, own_ns: int) -> None:
        """Take bytes, when they came, and when they were read."""

    def writable(self) -> None:
        """Send what waited for the socket."""

    def lost(self, error: OSError | None) -> None:
        """Take the end: of the far end's bytes (None), or of the connection."""


class Streams:
    """Reads from all sockets, and stamps what comes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.trips_ns = array("q")  # in which each connection was opened, without TLS
        self._set: select.epoll | _OtherSet = _new_set()
        self._streams: dict[int, Stream] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def trip_ms(self) -> float | None:
        """How long the way to the server and back is: the median; None: nothing was opened."""
        ordered = sorted(self.trips_ns)
        return ordered[len(ordered) // 2] / 1e6 if ordered else None

    def add(self, sock: socket.socket, stream: Stream) -> None:
        """Tell a stream from now on what its socket brings. On a running loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._set.fileno(), self._drain)
        self._streams[sock.fileno()] = stream
        self._set.register(sock.fileno(), READABLE)

    def await_writable(self, sock: socket.socket, wanted: bool) -> None:
        self._set.modify(sock.fileno(), READABLE | WRITABLE if wanted else READABLE)

    def drop(self, sock: socket.socket) -> None:
        """Tell nothing more; before the socket is closed."""
        del self._streams[sock.fileno()]
        self._set.unregister(sock.fileno())

    def close(self) -> None:
        """Stop; no socket may be left."""
        if self._loop is not None:
            self._loop.remove_reader(self._set.fileno())
        self._set.close()

    def _drain(self) -> None:
        """Read once from each socket that has something; the set tells the rest again."""
        clock, now_ns, stream_of = self.clock, time.perf_counter_ns, self._streams.get
        clock.look()
        for fd, events in self._set.poll(0, AT_ONCE):
            stream = stream_of(fd)
            if stream is None:
                continue  # dropped in this very batch
            if events & WRITABLE:
                stream.writable()
                if events == WRITABLE:
                    continue
            try:
                data, control, _, _ = stream.recvmsg(READ_BYTES, CONTROL_SPACE)
                own_ns = now_ns()  # the bytes have been read
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as e:  # an error is told as readable, too
                stream.lost(e)
                continue
            if data:
                stream.received(data, clock.arrived_ns(control, own_ns), own_ns)
            else:
                stream.lost(None)


def _new_set() -> select.epoll | _OtherSet:
    return select.epoll() if hasattr(select, "epoll") else _OtherSet()


class _OtherSet:
    """What is needed of an epoll set, on other systems than Linux: a kqueue is a file, too."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, _as_selected(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, _as_selected(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, _timeout: int, most: int) -> list[tuple[int, int]]:
        found = self._selector.select(0)[:most]
        return [(key.fd, READABLE * (ready & 1) | WRITABLE * (ready >> 1)) for key, ready in found]

    def close(self) -> None:
        self._selector.close()


def _as_selected(events: int) -> int:
    """Return epoll's events as EVENT_READ (1) and EVENT_WRITE (2)."""
    return events & READABLE | (events & WRITABLE) >> 1
