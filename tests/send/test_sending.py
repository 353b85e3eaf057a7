"""The small parts of a sending process: tickets, segments, lags, shares of the streams."""

from __future__ import annotations

import multiprocessing
import threading
import time
from array import array
from multiprocessing.connection import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew.health import lag_summary
from vllm_bench.crew.started import allowed_cores, choose_workers, cores_for, keeping_off
from vllm_bench.reply.exchange import Exchange, Segment
from vllm_bench.send import outbox as outbox_module
from vllm_bench.send.loop_health import TICK_NS, lags_of
from vllm_bench.send.outbox import Broke, Outbox
from vllm_bench.send.tickets import Tickets

MS = 1_000_000


def take_all(tickets: Tickets, results: Connection) -> None:
    taken = []
    while (index := tickets.take()) is not None:
        taken.append(index)
    results.send(taken)


def test_tickets_are_dealt_once_and_in_order() -> None:
    tickets = Tickets(3)
    assert tickets.taken() == 0
    assert [tickets.take() for _ in range(5)] == [0, 1, 2, None, None]
    assert tickets.taken() == 3
    tickets.close()


@pytest.mark.process
def test_processes_share_one_order_of_tickets() -> None:
    tickets = Tickets(20_000)
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe(duplex=False) for _ in range(3)]
    crew = [context.Process(target=take_all, args=(tickets, theirs)) for _, theirs in ends]
    for process in crew:
        process.start()
    shares = [ours.recv() for ours, _ in ends]
    for process in crew:
        process.join()
    assert sorted(index for share in shares for index in share) == list(range(20_000))
    for share in shares:
        assert share == sorted(share)
    assert tickets.taken() == 20_000  # by whomever
    tickets.close()


reads = st.lists(st.tuples(st.integers(0, 2**62), st.binary(max_size=40)), max_size=20)


@given(reads)
def test_a_segment_survives_its_packing(read: list[tuple[int, bytes]]) -> None:
    exchange = Exchange(3, 0, t_scheduled_ns=0, http_status=200, reads=list(read))
    packed = exchange.hand_over().packed()
    assert (packed.request_index, packed.http_status) == (3, 200)
    assert list(packed.reads()) == read
    assert exchange.reads == []


def test_an_outbox_sends_everything_in_order_before_it_closes() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    outbox = Outbox(theirs)
    for number in range(300):
        outbox.put(number)
    outbox.close()
    assert [ours.recv() for _ in range(300)] == list(range(300))
    assert not ours.poll()


def test_an_outbox_whose_reader_is_gone_ends_quietly() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    outbox = Outbox(theirs)
    outbox.put("nobody reads this")
    outbox.close()


def segment_of(size: int) -> Segment:
    return Segment(0, 200, [(1, b"x" * size)], read_bytes=size)


def test_the_loop_waits_while_too_much_is_on_its_way_to_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "MOST_WAITING", 3_000_000)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    outbox, put = Outbox(theirs), []

    def put_all() -> None:
        for number in range(40):
            outbox.put((segment_of(1_000_000), number))
            put.append(number)

    putting = threading.Thread(target=put_all)
    putting.start()
    for taken in range(40):
        (_, number) = ours.recv()
        assert number == taken
        assert len(put) <= taken + 7  # those in the outbox, in the pipe, and on both sides of it
    putting.join()
    outbox.close()
    assert len(put) == 40


def test_a_reader_that_is_gone_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MOST_WAITING", 1000)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    outbox = Outbox(theirs)
    for _ in range(5):
        outbox.put(segment_of(1000))
    outbox.close()


def test_what_breaks_the_outbox_is_told_and_the_rest_is_sent() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    outbox = Outbox(theirs)
    outbox.put("before")
    outbox.put(threading.Lock())  # it can't be pickled
    while not outbox.sending.done():
        time.sleep(0.001)
    outbox.put("after")
    outbox.close()
    assert [ours.recv(), ours.recv()] == ["before", "after"]
    told = ours.recv()
    assert isinstance(told, Broke)
    assert "pickle" in told.text


@pytest.mark.parametrize(
    ("late_ms", "lags_ms"),
    [
        (0, [0]),
        (3, [3]),
        (9.999, [9.999]),
        (25, [25, 15, 5]),  # two ticks never came: each would have been late
        (40, [40, 30, 20, 10, 0]),
    ],
)
def test_a_held_up_loop_is_late_for_every_tick_that_it_missed(
    late_ms: float, lags_ms: list[float]
) -> None:
    due = 5 * TICK_NS
    assert lags_of(due, due + int(late_ms * MS)) == [int(lag * 1000) for lag in lags_ms]


def test_lags_are_summed_up_in_ms() -> None:
    assert lag_summary(array("I")) is None
    found = lag_summary(array("I", range(0, 1001)))
    assert found is not None
    assert (found["ticks"], found["p50"], found["p99"], found["max"]) == (1001, 0.5, 0.99, 1.0)


@pytest.mark.parametrize(
    ("streams", "cores", "workers"),
    [
        (1, 64, 1),
        (128, 64, 1),
        (129, 64, 2),
        (1000, 64, 8),
        (1000, 2, 1),  # the other core is the server's, or the reader's
        (1000, 1, 1),
        (16384, 16, 8),
    ],
)
def test_workers_follow_the_streams_and_leave_half_of_the_cores(
    streams: int, cores: int, workers: int
) -> None:
    assert choose_workers(streams, cores) == workers


@pytest.mark.parametrize(
    ("workers", "allowed", "cores"),
    [
        (1, [0, 1], [1]),
        (2, [0, 1], [None, None]),  # somebody has to read what they send
        (1, [3], [None]),
        (2, [0, 2, 4, 6], [6, 4]),
        (1, [], [None]),  # a system that can't tell
    ],
)
def test_each_worker_has_a_core_of_its_own_where_half_are_left(
    workers: int, allowed: list[int], cores: list[int | None]
) -> None:
    assert cores_for(workers, allowed) == cores


@pytest.mark.skipif(len(allowed_cores()) < 2, reason="one core, or a system that can't tell")
def test_the_parent_keeps_off_the_workers_cores_and_comes_back() -> None:
    before = allowed_cores()
    with keeping_off([before[-1]]):
        assert allowed_cores() == before[:-1]
    assert allowed_cores() == before
    with keeping_off([None]):
        assert allowed_cores() == before
