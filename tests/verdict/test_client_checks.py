"""Did the client live, keep up, and keep its clock: each code on both sides of its limit."""

from __future__ import annotations

import pytest
from vllm_bench.records.run_info import ClockPair
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import NOON_S
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, SUSPECT, healthy, severity_of


def health(**changes):
    worker = {"worker": 0, "streams": 2, "lost": False, "cpu_share_per_second": [0.1, 0.2]}
    lag = changes.pop("lag_p99_ms", 0.1)
    lost = {"worker": 1, "streams": 2, "lost": True, "cpu_share_per_second": []}
    workers = [{**worker, **changes}, *([lost] if changes.pop("one_lost", False) else [])]
    return {"workers": workers, "loop_lag_ms": {"ticks": 1000, "p99": lag}}


@pytest.mark.parametrize(
    ("lag_p99_ms", "tpot_ms", "expected"),
    [
        (2.0, 10.0, None),  # not above the floor
        (2.1, 43.0, None),  # 4.9 % of a gap
        (2.1, 41.0, SUSPECT),
        (2.1, 10.4, INVALID),
        (1.9, 1.0, None),
    ],
)
def test_a_sending_loop_that_is_late_is_doubted(tmp_path, lag_p99_ms, tpot_ms, expected):
    late = health(lag_p99_ms=lag_p99_ms)
    facts = facts_of(tmp_path, healthy(tpot_ms=tpot_ms), client_health=late)
    assert severity_of(facts, "loop_lag") == expected


@pytest.mark.parametrize(("ticks", "expected"), [(367, None), (368, INVALID)])
def test_a_p99_of_a_few_ticks_doubts_nothing(tmp_path, ticks, expected):
    late = {"loop_lag_ms": {"ticks": ticks, "p99": 50.0}}
    assert severity_of(facts_of(tmp_path, healthy(), client_health=late), "loop_lag") == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.70, None), (0.71, SUSPECT), (0.90, SUSPECT), (0.91, INVALID)]
)
def test_a_sending_process_near_its_core_is_doubted(tmp_path, share, expected):
    busy = health(cpu_share_per_second=[0.1, share, 0.2])
    assert severity_of(facts_of(tmp_path, healthy(), client_health=busy), "client_cpu") == expected


def test_a_lost_sending_process_spoils_the_run_whatever_came_of_the_rest(tmp_path):
    lost = health(one_lost=True)
    facts = facts_of(tmp_path, healthy(), num_requests=102, client_health=lost)
    found = finding_of(facts, "worker_lost")
    assert found is not None
    assert found.severity == INVALID
    assert "1 of 2" in found.figures
    assert "2 requests" in found.figures  # have no row
    assert finding_of(facts, "interrupted") is None  # said once
    alive = facts_of(tmp_path, healthy(), client_health=health())
    assert finding_of(alive, "worker_lost") is None


@pytest.mark.parametrize(
    "odd", [{"workers": 3}, {"workers": [{"cpu_share_per_second": "x"}]}, {"loop_lag_ms": []}]
)
def test_health_that_somebody_edited_is_no_health(tmp_path, odd):
    assert judge(facts_of(tmp_path, healthy(), client_health=odd)).level == "VALID"


@pytest.mark.parametrize(
    ("drift_ms", "expected"),
    [(4.9, None), (-4.9, None), (5.1, SUSPECT), (-49.0, SUSPECT), (51.0, INVALID)],
)
def test_clocks_that_moved_apart_are_doubted(tmp_path, drift_ms, expected):
    end = ClockPair(wall_s=NOON_S + 60 + drift_ms / 1000, monotonic_ns=60_000_000_000)
    assert severity_of(facts_of(tmp_path, healthy(), clock_end=end), "clock_drift") == expected
