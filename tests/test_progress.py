"""How far a run has come, on a virtual clock."""

from __future__ import annotations

import io
import os
import shutil
from types import SimpleNamespace

import pytest
from loadgen import progress as progress_module
from loadgen.progress import Progress, ProgressLine, progress_line

from tests.made_runs import failed_record, made_record


class Clock:
    """A clock that stands until it is set; seconds since the run's start."""

    now_s = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    virtual = SimpleNamespace(perf_counter=lambda: 500.0 + found.now_s)
    monkeypatch.setattr(progress_module, "time", virtual)
    return found


def progress(good: int = 0, failed: int = 0, planned: int = 50) -> Progress:
    found = Progress(planned, started_s=500.0)
    for index in range(good):
        found.count(made_record(index))
    for index in range(failed):
        found.count(failed_record(index))
    return found


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("good", "failed", "now_s", "line"),
    [
        (0, 0, 0.0, "0/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (0, 0, -0.05, "0/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (3, 0, 0.0, "3/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (20, 0, 10.0, "20/50 requests, 2 req/s, 40 tok/s, 0 failed, 0:15 left"),
        (1, 0, 3.0, "1/50 requests, 0.333 req/s, 7 tok/s, 0 failed, 2:27 left"),
        (1, 0, 100.0, "1/50 requests, 0.01 req/s, 0 tok/s, 0 failed, 81:40 left"),
        (8, 2, 5.0, "10/50 requests, 2 req/s, 32 tok/s, 2 failed (http_5xx:2), 0:20 left"),
        (50, 0, 5.0, "50/50 requests, 10 req/s, 200 tok/s, 0 failed"),
    ],
)
def test_the_line_says_requests_rates_failures_and_time_left(
    clock: Clock, good: int, failed: int, now_s: float, line: str
) -> None:
    clock.now_s = now_s
    assert progress_line(progress(good, failed)) == line


def test_failures_are_told_by_kind_the_commonest_first(clock: Clock) -> None:
    found = progress()
    for kind in ("connect", "timeout_stall", "timeout_stall"):
        found.count(failed_record(error_kind=kind, error=f"it was {kind}"))
    assert "3 failed (timeout_stall:2 connect:1)" in progress_line(found)
    assert found.last_error == "it was timeout_stall"


def test_tokens_of_a_request_without_usage_count_nothing(clock: Clock) -> None:
    clock.now_s = 2.0
    found = progress(good=1)
    found.count(failed_record(completion_tokens=None))
    assert found.token_rate == 10.0


def test_stopping_says_what_a_second_ctrl_c_does(clock: Clock) -> None:
    clock.now_s = 5.0
    found = progress(good=10)
    found.stopping = True
    assert progress_line(found).endswith("no new requests (Ctrl-C again cuts off those under way)")
    assert "left" not in progress_line(found)


def test_in_a_log_there_is_a_line_every_ten_seconds_and_one_at_the_end(clock: Clock) -> None:
    log = io.StringIO()
    with ProgressLine(log) as line:
        for second in range(36):
            clock.now_s = float(second)
            line.show(progress(good=second))
        line.show(progress(good=50))
    lines = log.getvalue().splitlines()
    assert [li.split("/")[0] for li in lines] == ["  10", "  20", "  30", "  50"]
    assert "\r" not in log.getvalue()


def test_on_a_terminal_one_line_is_written_over_five_times_a_second_at_most(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = os.terminal_size((40, 24))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: size)
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        for tick in range(17):  # two seconds, in steps that binary fractions hold exactly
            clock.now_s = tick / 8
            line.show(progress(good=tick))
    shown = terminal.getvalue().split("\r")[1:]
    assert [s.split("/")[0] for s in shown] == [f"  {n}" for n in range(0, 17, 2)]
    assert {len(s.rstrip("\n")) for s in shown} == {39}  # cut or filled: no rest of an older one
    assert terminal.getvalue().endswith("\n")
