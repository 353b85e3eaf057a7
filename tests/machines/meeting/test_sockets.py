"""Connections between machines that end, are cut, or take nothing any more."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe

import pytest
from vllm_bench.crew.inbox import Inbox
from vllm_bench.crew.worker import Worker
from vllm_bench.machines.fleet.crew import MachineCrew
from vllm_bench.machines.meeting.sockets import cut, cut_after, set_up
from vllm_bench.send.outbox import Connected


@pytest.fixture
def pair() -> Iterator[tuple[Pipe, Pipe]]:
    """Two ends of a connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(True)
    ends = Pipe(near.detach()), Pipe(far.detach())
    yield ends
    for end in ends:
        end.close()


def test_a_connection_that_is_cut_ends_for_both_and_keeps_its_number(
    pair: tuple[Pipe, Pipe],
) -> None:
    near, far = pair
    number = near.fileno()
    cut(near)
    for end in pair:
        with pytest.raises(EOFError):
            end.recv()
    assert near.fileno() == number
    cut(near)
    near.close()
    cut(near)
    cut(far)


def test_who_takes_too_long_is_cut(pair: tuple[Pipe, Pipe]) -> None:
    near, far = pair
    with cut_after(near, 30.0):
        far.send("in time")
        assert near.recv() == "in time"
    with cut_after(near, 0.05), pytest.raises(EOFError):
        near.recv()


def test_a_machine_that_takes_nothing_is_not_waited_for(pair: tuple[Pipe, Pipe]) -> None:
    near, _ = pair
    set_up(near, prompt=True, limit_s=1.0)
    with pytest.raises(OSError):  # noqa: PT011 (of any kind: the kernel's choice)
        near.send_bytes(bytes(1 << 26))


def test_what_came_before_a_reset_is_read_and_then_its_end(pair: tuple[Pipe, Pipe]) -> None:
    near, far = pair
    inbox = Inbox(near)
    for number in range(3):
        far.send(number)
    near_got: list[object] = []
    while len(near_got) < 3:
        near_got += inbox.take() or ()
    assert near_got == [0, 1, 2]
    with socket.socket(fileno=far.fileno()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.detach()
    far.close()  # at once: a reset
    while (found := inbox.take()) is not None:
        assert found == []


def test_machines_that_reach_no_server_are_named() -> None:
    def told(name: str, connected: int, problem: str | None) -> tuple[Worker, Connected]:
        worker = Worker.__new__(Worker)
        worker.name = name
        return worker, Connected(connected, problem)

    crew = MachineCrew.__new__(MachineCrew)
    good = [told(name, 2, None) for name in ("node-a", "node-b")]
    assert crew.reached(good) is None
    bad, some = told("node-c", 0, "connection refused"), told("node-d", 1, "too many open files")
    assert crew.reached([*good, bad, some]) == (
        "3 of 4 machines reach the server; node-c: connection refused; node-d: too many open files"
    )
