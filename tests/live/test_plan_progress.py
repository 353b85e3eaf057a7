"""What has begun of a plan, as the parent can tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm_bench.live import progress as progress_module
from vllm_bench.live.progress import (
    Progress,
    last_line,
    progress_line,
    progress_of,
    time_left,
)

from tests.support.made_runs import made_record


class Clock:
    """A clock that stands until it is set."""

    now_s = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    virtual = SimpleNamespace(perf_counter=lambda: found.now_s)
    monkeypatch.setattr(progress_module, "time", virtual)
    return found


def plan(due_s: tuple[float, ...] = (), **changes: Any) -> Any:
    """What is asked of a plan: an open loop where requests come due, else 4 streams."""
    part = SimpleNamespace(
        open_loop=bool(due_s),
        scenario=SimpleNamespace(max_in_flight=changes.pop("max_in_flight", None)),
        plays=changes.pop("plays", None),
    )
    parts: dict[str, Any] = {
        "measured": len(due_s) or 20,
        "measured_s": due_s,
        "drawn": [part],
        "level": SimpleNamespace(concurrency=None if due_s else 4),
        "duration_s": None,
    }
    return SimpleNamespace(**{**parts, **changes})


def ended(progress: Progress, count: int) -> Progress:
    for index in range(count):
        progress.count(made_record(index))
    return progress


@pytest.mark.parametrize(("taken", "count", "in_flight"), [(0, 0, 0), (4, 0, 4), (9, 6, 3)])
def test_of_a_closed_loop_as_many_are_in_flight_as_tickets_were_taken_and_not_ended(
    taken: int, count: int, in_flight: int
) -> None:
    assert ended(progress_of(plan(), lambda: taken, 100.0), count).in_flight == in_flight


def test_a_stream_that_has_gone_on_before_its_end_was_told_counts_once() -> None:
    assert ended(progress_of(plan(), lambda: 11, 100.0), 6).in_flight == 4


def test_of_an_open_loop_what_has_come_due_is_in_flight(clock: Clock) -> None:
    found = progress_of(plan(due_s=(0.0, 1.0, 2.0, 3.0)), lambda: 0, 100.0)
    clock.now_s = 102.5
    assert (found.phase, found.in_flight) == ("connecting", 0)  # the warm-up goes on
    found.started_s = 103.0
    clock.now_s = 105.5
    assert found.in_flight == 3
    assert ended(found, 2).in_flight == 1


def test_what_comes_due_after_ctrl_c_is_not_sent(clock: Clock) -> None:
    found = progress_of(plan(due_s=(0.0, 1.0, 2.0, 3.0)), lambda: 0, 100.0)
    found.started_s = 103.0
    clock.now_s = 104.5
    found.stop()
    clock.now_s = 110.0
    assert (found.stopping, found.in_flight) == (True, 2)


def test_what_a_cap_holds_back_is_not_in_flight(clock: Clock) -> None:
    found = progress_of(plan(due_s=(0.0, 0.0, 0.0), max_in_flight=2), lambda: 0, 100.0)
    found.started_s = 103.0
    clock.now_s = 104.0
    assert found.in_flight == 2


def test_a_closed_loop_by_time_is_over_when_its_time_is_and_its_least_requests_are(
    clock: Clock,
) -> None:
    found = progress_of(plan(measured=20, duration_s=60.0), lambda: 4, 100.0)
    clock.now_s = 130.0
    assert (found.share, found.left_s) == (0.0, 30.0)  # the warm-up goes on
    found.started_s, found.phase = 130.0, ""
    clock.now_s = 160.0
    assert (found.share, found.left_s) == (0.0, 30.0)
    assert "/20 requests" in progress_line(ended(found, 5))
    assert (found.share, found.left_s) == (0.25, 90.0)  # at this rate the requests take longer
    assert "/" not in last_line(ended(found, 20)).split(" requests")[0]
    assert (found.share, found.left_s) == (0.5, 30.0)
    clock.now_s = 200.0
    assert (found.share, found.left_s, time_left(found)) == (1.0, None, "")


def test_of_conversations_nobody_can_tell() -> None:
    assert progress_of(plan(plays=object()), lambda: 5, 100.0).in_flight is None
