"""Ticks and gaps, as tables: what is due when, and from when to when there was nothing."""

from __future__ import annotations

import threading

import pytest
from vllm_bench.watch.recording import Gap, GapLog
from vllm_bench.watch.tick import Ticker, next_tick_ns

from tests.support.beside.waiting import LIMIT_S


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (1000, 1100),  # begun at 1000, every 100
        (1001, 1100),
        (1099, 1100),
        (1100, 1200),  # this tick is being served
        (1250, 1300),  # late: the next one is on the grid again
        (1999, 2000),  # nine were missed and are not caught up
    ],
)
def test_the_next_tick_is_on_the_grid_and_missed_ones_are_left_out(now: int, due: int) -> None:
    assert next_tick_ns(1000, 100, now) == due


def test_a_beat_acts_at_once_and_once_more_when_it_is_stopped() -> None:
    calls: list[str] = []
    beat = Ticker(lambda: calls.append(threading.current_thread().name), hz=0.001, name="mine")
    assert beat.start(LIMIT_S)
    assert calls == ["mine"]
    assert beat.stop(LIMIT_S)
    assert calls == ["mine", "mine"]


def test_a_beat_that_is_ended_acts_no_more() -> None:
    calls: list[int] = []
    beat = Ticker(lambda: (calls.append(1), beat.end())[0], hz=1000, name="mine")  # type: ignore[func-returns-value]
    assert beat.start(LIMIT_S)
    assert beat.stop(LIMIT_S)
    assert calls == [1]


def test_an_act_that_hangs_is_left_behind() -> None:
    hang = threading.Event()
    beat = Ticker(lambda: hang.wait() and None, hz=1000, name="hanging")
    assert not beat.start(0.01)
    assert not beat.stop(0.01)
    hang.set()


def test_a_beat_that_fails_is_counted_and_the_next_one_comes() -> None:
    left: list[Exception | None] = [None, TypeError("odd"), None, ZeroDivisionError()]
    over = threading.Event()

    def act() -> None:
        error = left.pop(0) if left else over.set()
        if error:
            raise error

    beat = Ticker(act, hz=1000, name="mine")
    assert beat.start(LIMIT_S)
    assert over.wait(LIMIT_S)
    assert beat.stop(LIMIT_S)
    assert beat.failures.count == 2
    assert str(beat.failures.words).endswith("ZeroDivisionError: ")


def test_a_first_beat_that_fails_lets_the_start_go_on() -> None:
    def fail() -> None:
        raise AttributeError("nvmlDeviceGetNothing")

    beat = Ticker(fail, hz=0.001, name="mine")
    assert beat.start(LIMIT_S)
    assert beat.stop(LIMIT_S)
    assert beat.failures.words == "2 of 2 readings failed: AttributeError: nvmlDeviceGetNothing"


def test_regular_readings_have_no_gap() -> None:
    log = GapLog(1.0)
    for tenth in range(50):
        log.seen(0, tenth / 10)
    assert log.until(5.5) == []


def test_readings_too_far_apart_are_a_gap() -> None:
    log = GapLog(1.0)
    for t_s in (0.0, 0.5, 1.5, 2.6):
        log.seen(0, t_s)
    assert log.until(2.6) == [Gap(0, 1.5, 2.6, "late")]


def test_a_gap_has_its_first_cause_however_short_it_is() -> None:
    log = GapLog(1.0)
    log.seen(0, 1.0)
    log.missed(0, "gpu_lost")
    log.missed(0, "driver_gone")
    log.seen(0, 1.2)
    assert log.until(1.3) == [Gap(0, 1.0, 1.2, "gpu_lost")]


def test_what_never_came_back_stays_open() -> None:
    log = GapLog(1.0)
    log.seen(0, 1.0)
    log.seen(1, 1.0)
    log.missed(1, "gpu_lost")
    log.missed(2, "exporter")
    assert log.until(1.5) == [Gap(1, 1.0, None, "gpu_lost"), Gap(2, None, None, "exporter")]
    assert Gap(0, 1.0, None, "late") in log.until(9.0)  # a stream that just ended


def test_a_gap_is_told_on_the_clock_of_the_run() -> None:
    ends = {"from_s": -0.5, "to_s": 3.0}
    assert Gap(1, 99.5, 103.0, "late").facts(100.0) == {"gpu_index": 1, **ends, "code": "late"}
    ends = {"from_s": None, "to_s": None}
    assert Gap(1, None, None, "late").facts(100.0) == {"gpu_index": 1, **ends, "code": "late"}
