"""The head's door: where foremen come in, and nobody else.

Both sides prove that they know the session's key (HMAC), and then exchange pickles, so whoever has
the key can do what the user can. Nothing is encrypted: this is for a network that is trusted. Who
hasn't the key can neither come in nor keep others out: each newcomer is heard in a thread of its
own, for a limited time, and where too many stand there the first of them must go.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import answer_challenge, deliver_challenge, wait

from ..crew.worker import FROZEN_S
from ..errors import UsageError
from .meeting.address import Address
from .meeting.hello import (
    ENOUGH,
    KINDS,
    MOST_BYTES,
    NEWCOMER_S,
    NO,
    WELCOME,
    MisfitError,
    hello_of,
)
from .meeting.sockets import cut, cut_after, set_up
from .messages import Hello, Kind, MachineFacts

MOST_NEWCOMERS = 64  # at a time
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Arrived:
    """A foreman with all its connections."""

    hello: Hello
    pipes: dict[Kind, Pipe]


class Door:
    """Where foremen knock; closed once as many as are wanted are in."""

    def __init__(self, at: Address, key: bytes, wanted: int, ours: MachineFacts) -> None:
        """Listen. Raises OSError."""
        self._key, self._wanted, self._ours = key, wanted, ours
        self._at, self._listening = at, _listening(at)
        self.turned_away = 0  # who didn't know the key, or said nothing, or no hello
        self.misfit: str | None = None  # who knew it, but can't take part
        self._came: dict[str, dict[Kind, tuple[Hello, Pipe]]] = {}
        self._newcomers: deque[Pipe] = deque()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._open_to_all, daemon=True).start()

    @property
    def address(self) -> Address:
        """Where it is: with the port that was free."""
        host, port, *_ = self._listening.getsockname()
        return Address(self._at.host if "%" in self._at.host else str(host), int(port))

    def whole(self) -> list[Arrived]:
        """Return the foremen that are in; one that has gone again isn't."""
        with self._lock:
            self._forget_gone()
            return [
                Arrived(came["orders"][0], {kind: pipe for kind, (_, pipe) in came.items()})
                for came in self._came.values()
                if len(came) == len(KINDS)
            ]

    def close(self, *, whole_stay: bool) -> None:
        """Let nobody in any more; who isn't whole must go."""
        with self._lock:
            self._closed = True
            self._listening.close()
            for pipe in self._newcomers:
                cut(pipe)
            for came in self._came.values():
                if not whole_stay or len(came) < len(KINDS):
                    _close(came)

    # ---- by a thread ----

    def _open_to_all(self) -> None:
        while not self._closed:
            try:
                if not select.select([self._listening], [], [], POLL_S)[0]:
                    continue
                sock, _ = self._listening.accept()
            except (OSError, ValueError):  # it was closed; or no more files can be opened
                self._make_room(1)
                time.sleep(POLL_S)
                continue
            sock.setblocking(True)
            pipe = Pipe(sock.detach())
            self._make_room(MOST_NEWCOMERS)
            with self._lock:
                self._newcomers.append(pipe)
            threading.Thread(target=self._hear, args=(pipe,), daemon=True).start()

    def _make_room(self, most: int) -> None:
        """Have the first of too many newcomers go."""
        with self._lock:
            if len(self._newcomers) >= most:
                cut(self._newcomers[0])

    def _hear(self, pipe: Pipe) -> None:
        """Let a newcomer in, or turn it away."""
        stays = False
        try:
            with cut_after(pipe, NEWCOMER_S):
                deliver_challenge(pipe, self._key)
                answer_challenge(pipe, self._key)
                hello = hello_of(pipe.recv_bytes(MOST_BYTES), self._ours)
            stays = self._let_in(hello, pipe)
        except MisfitError as e:
            self.misfit = str(e)
            with contextlib.suppress(OSError):
                pipe.send_bytes(NO + b": " + str(e).encode())
        except (AuthenticationError, AssertionError, ValueError, OSError, EOFError):
            self.turned_away += not self._closed
        finally:
            with self._lock:
                self._newcomers.remove(pipe)
            if not stays:
                pipe.close()

    def _let_in(self, hello: Hello, pipe: Pipe) -> bool:
        with self._lock:
            self._forget_gone()
            whole = sum(len(came) == len(KINDS) for came in self._came.values())
            if self._closed or whole >= self._wanted:
                pipe.send_bytes(ENOUGH + b": all machines that it wants are there already")
                return False
            if hello.kind in self._came.get(hello.foreman, {}):
                raise ValueError("it isn't a hello")
            limit_s = None if hello.kind == "results" else FROZEN_S  # without a byte taken
            set_up(pipe, prompt=hello.kind != "results", limit_s=limit_s)
            pipe.send_bytes(WELCOME)
            self._came.setdefault(hello.foreman, {})[hello.kind] = hello, pipe
            return True

    def _forget_gone(self) -> None:
        """Forget who has left: nobody says a word before a run, so what can be read is an end."""
        for foreman, came in list(self._came.items()):
            if wait([pipe for _, pipe in came.values()], 0):
                _close(self._came.pop(foreman))


def _close(came: dict[Kind, tuple[Hello, Pipe]]) -> None:
    for _, pipe in came.values():
        pipe.close()


def _listening(at: Address) -> socket.socket:
    """Return a socket that listens at one address. Raises OSError."""
    found = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def open_door(at: Address, key: bytes, wanted: int, ours: MachineFacts) -> Iterator[Door]:
    """Let foremen in inside the block. Raises UsageError where nobody can listen there."""
    try:
        door = Door(at, key, wanted, ours)
    except OSError as e:
        where = at if at.port else at.host
        raise UsageError(f"--listen {where}: {e.strerror or e}") from e
    try:
        yield door
    except BaseException:
        door.close(whole_stay=False)
        raise
    door.close(whole_stay=True)
