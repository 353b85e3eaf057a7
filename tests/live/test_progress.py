"""How far a run has come, on a virtual clock."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.throughput import throughput
from vllm_bench.live.progress import Progress, ProgressLines, last_line, lost_words, progress_line

from tests.live.screens import Clock
from tests.support.made_runs import failed_record, frame_of, made_record


def progress(good: int = 0, failed: int = 0, planned: int = 50) -> Progress:
    found = Progress(planned, started_s=500.0)
    for index in range(good):
        found.count(made_record(index))
    for index in range(failed):
        found.count(failed_record(index))
    return found


@pytest.mark.parametrize(
    ("good", "failed", "now_s", "line"),
    [
        (0, 0, 0.0, "0/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (0, 0, -0.05, "0/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (3, 0, 0.0, "3/50 requests, 0 req/s, 0 tok/s, 0 failed"),
        (20, 0, 10.0, "20/50 requests, 2 req/s, 40 tok/s, 0 failed, 0:15 left"),
        (1, 0, 3.0, "1/50 requests, 0.333 req/s, 7 tok/s, 0 failed, 2:27 left"),
        (1, 0, 100.0, "1/50 requests, 0.01 req/s, 0 tok/s, 0 failed, 81:40 left"),
        (8, 2, 5.0, "10/50 requests, 1.6 req/s, 32 tok/s, 2 failed (http_5xx:2), 0:20 left"),
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
    assert "timeout_stall" in (found.last_error or "")


def test_tokens_of_a_request_without_usage_count_nothing(clock: Clock) -> None:
    clock.now_s = 2.0
    found = progress(good=1)
    found.count(failed_record(completion_tokens=None))
    assert ", 10 tok/s, " in progress_line(found)


def test_the_phase_is_told_where_there_is_one(clock: Clock) -> None:
    found = progress()
    found.phase = "warming up 3/8"
    assert progress_line(found).startswith(f"{found.phase}, 0/50 ")


def test_stopping_says_what_a_second_ctrl_c_does(clock: Clock) -> None:
    clock.now_s = 5.0
    found = progress(good=10)
    found.stopping = True
    assert "Ctrl-C" in progress_line(found)
    assert "left" not in progress_line(found)


def test_a_run_that_has_shown_enough_isnt_ended_by_ctrl_c(clock: Clock) -> None:
    clock.now_s = 5.0
    found = progress(good=10)
    found.stop("9 late, and 7 may be")
    assert "7 may be" in progress_line(found)
    assert "Ctrl-C" not in progress_line(found)


def test_the_last_lines_rates_reach_to_the_last_end_and_no_further(clock: Clock) -> None:
    clock.now_s = 600.0  # files were written and the server asked since
    found = progress(good=4)  # sent a quarter of a second apart, a second each
    figures = [re.findall(r"[\d.]+", last_line(p)) for p in (found, progress())]
    assert figures == [["4", "50", "2.29", "46", "0"], ["0", "50", "0", "0", "0"]]


def test_the_rates_are_of_successes_from_the_first_send_as_the_tables_whole_run_is(
    clock: Clock, tmp_path: Path
) -> None:
    records = [made_record(index, t_sent_s=2 + index / 4) for index in range(20)]
    records += [failed_record(20, t_sent_s=7.0, completion_tokens=9)]  # it died in its reply
    found = Progress(50, started_s=500.0)
    for record in records:
        found.count(record)
    whole = throughput(Facts(frame_of(tmp_path, records), None))
    assert whole is not None
    assert last_line(found).startswith(
        f"21/50 requests, {whole.requests_per_s:.3g} req/s, {whole.output_tokens_per_s:,.0f} tok/s,"
    )
    assert found.completion_tokens == 20 * 20 + 9  # what the server's ledger has


@pytest.mark.parametrize(
    ("begun", "streams", "in_flight"),
    [(18, 8, 8), (19, 8, 8), (13, 8, 3), (30, None, 20), (9, 8, 0)],
)
def test_in_flight_is_what_began_and_has_not_ended_and_never_more_than_the_streams(
    begun: int, streams: int | None, in_flight: int
) -> None:
    found = progress(good=10)
    assert found.in_flight is None  # nobody says how many began
    found.begun, found.most_in_flight = lambda: begun, streams
    assert found.in_flight == in_flight


def test_in_a_log_there_is_a_line_every_ten_seconds_and_one_at_the_end(clock: Clock) -> None:
    log = io.StringIO()
    with ProgressLines(log) as lines:
        for second in range(36):
            clock.now_s = float(second)
            lines.show(progress(good=second))
        lines.show(progress(good=50))
        lines.show(progress(good=50))
    assert [li.split("/")[0] for li in log.getvalue().splitlines()] == [
        "  10",
        "  20",
        "  30",
        "  50",
    ]
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_in_a_log_the_answer_to_ctrl_c_does_not_wait(clock: Clock) -> None:
    log = io.StringIO()
    found = progress(good=3)
    with ProgressLines(log) as lines:
        for tick in range(4):
            clock.now_s = 1 + tick / 8
            found.stopping = tick > 0
            lines.show(found)
    first, last = log.getvalue().splitlines()
    assert "stopping" in first
    assert last.startswith("  3/50 requests, ")


def test_in_a_log_a_loss_is_told_when_it_happens_and_stays(clock: Clock) -> None:
    log = io.StringIO()
    found = progress(good=3)
    with ProgressLines(log) as lines:
        for tick in range(12):
            clock.now_s = 1.0 + tick
            found.lost = ["b died"] if tick > 3 else []
            lines.show(found)
    *told, _ = log.getvalue().splitlines()
    assert ["lost: b died" in line for line in told] == [True]


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (0, ""),
        (1, "m0 gone"),
        (3, "m0 gone, m1 gone, m2 gone"),
        (5, "m0 gone, m1 gone, m2 gone, 2 more"),
    ],
)
def test_of_many_that_are_lost_a_few_are_named(lost: int, words: str) -> None:
    found = progress()
    found.lost = [f"m{number} gone" for number in range(lost)]
    assert lost_words(found) == words


def test_a_run_that_never_began_leaves_no_line() -> None:
    log = io.StringIO()
    with ProgressLines(log):
        pass
    assert log.getvalue() == ""


def test_after_the_warm_up_the_ten_seconds_begin_anew(clock: Clock) -> None:
    log = io.StringIO()
    found = progress()
    with ProgressLines(log) as lines:
        clock.now_s = 9.0
        lines.show(found)
        found.started_s += 9.0  # the run's start
        clock.now_s = 11.0
        lines.show(found)
        assert log.getvalue() == ""
        clock.now_s = 19.0
        lines.show(found)
    assert len(log.getvalue().splitlines()) == 2


def test_with_a_schedule_the_time_left_is_the_schedules(clock: Clock) -> None:
    clock.now_s = 5.0
    found = progress(good=1)
    found.last_due_s = 65.0
    assert progress_line(found).endswith("1:00 left")
    clock.now_s = 70.0  # replies are still to come: nobody knows for how long
    assert "left" not in progress_line(found)


def test_classes_are_counted_each_by_itself(clock: Clock) -> None:
    found = Progress(planned=9, started_s=0.0, classes={"chat": [0, 0], "legal": [0, 0]})
    for record in (made_record(0, class_="chat"), made_record(1, class_="chat")):
        found.count(record)
    found.count(failed_record(2, class_="legal"))
    clock.now_s = 9.0
    assert found.classes == {"chat": [2, 0], "legal": [1, 1]}
    assert "by class: chat 2, legal 1 (1 failed)" in progress_line(found)
    assert last_line(found).endswith("by class: chat 2, legal 1 (1 failed)")
