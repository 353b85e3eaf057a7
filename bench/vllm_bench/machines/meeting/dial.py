"""How a foreman comes through the head's door."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import answer_challenge, deliver_challenge

from ...errors import BenchError, UsageError
from ...records.text import printable
from ..messages import Hello, Kind
from .address import Address
from .hello import ENOUGH, KINDS, NEWCOMER_S, WELCOME, hello_text
from .sockets import cut_after, set_up

AGAIN_S = 1.0
SAY_AGAIN_S = 10.0
MOST_WORD = 1000


class NotNeededError(Exception):
    """The head has all the machines that it wants."""


def dial(
    head: Address,
    key: bytes,
    hello: Callable[[Kind], Hello],
    wait_s: float,
    say: Callable[[str], None],
) -> dict[Kind, Pipe]:
    """Open a foreman's connections to the head, waiting so long until there is one.

    Raises NotNeededError, UsageError (it has another key), BenchError.
    """
    begin_s, said_s = time.monotonic(), 0.0
    while True:
        try:
            return _dial_once(head, key, hello)
        except AuthenticationError as e:
            raise UsageError(f"{head}: it has another key") from e
        except (OSError, EOFError, AssertionError) as e:
            why = _words(e)
            # What has started this foreman listened before that.
            if isinstance(e, ConnectionRefusedError) and hello("orders").called:
                raise BenchError(f"{head}: no bench.py there any more: {why}") from e
        waited_s = time.monotonic() - begin_s
        if waited_s >= wait_s:
            raise BenchError(f"{head}: no bench.py there: {why}")
        if not said_s or waited_s - said_s >= SAY_AGAIN_S:
            said_s = waited_s or AGAIN_S
            say(f"waiting for bench.py at {head}: {why} ({waited_s:.0f} of {wait_s:g} s)")
        time.sleep(AGAIN_S)


def _dial_once(head: Address, key: bytes, hello: Callable[[Kind], Hello]) -> dict[Kind, Pipe]:
    pipes: dict[Kind, Pipe] = {}
    try:
        for kind in KINDS:
            pipes[kind] = _connected(head)
            _introduce(pipes[kind], head, key, hello(kind))
    except BaseException:
        for pipe in pipes.values():
            pipe.close()
        raise
    return pipes


def _connected(head: Address) -> Pipe:
    sock = socket.create_connection((head.host, head.port), timeout=NEWCOMER_S)
    sock.setblocking(True)
    return Pipe(sock.detach())


def _introduce(pipe: Pipe, head: Address, key: bytes, hello: Hello) -> None:
    """Come in, if the head wants it. Raises what `dial` does, OSError, EOFError."""
    set_up(pipe, prompt=hello.kind != "results")
    with cut_after(pipe, NEWCOMER_S):
        answer_challenge(pipe, key)
        deliver_challenge(pipe, key)
        pipe.send_bytes(hello_text(hello))
        answer = pipe.recv_bytes(MOST_WORD)
    word, _, text = answer.partition(b": ")
    if word == ENOUGH:
        raise NotNeededError(f"{head}: not needed: {text.decode(errors='replace')}")
    if word != WELCOME:
        raise BenchError(f"{head}: {printable(text.decode(errors='replace'), 300)}")


def _words(problem: Exception) -> str:
    if isinstance(problem, AssertionError):
        return "what answers there is something else"
    if isinstance(problem, EOFError):
        return "the connection was closed"
    if isinstance(problem, OSError):
        return str(problem.strerror or problem)
    return str(problem)
