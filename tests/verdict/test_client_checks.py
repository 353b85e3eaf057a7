"""Did the client live, keep up, and keep its clock: each code on both sides of its limit."""

from __future__ import annotations

import pytest
from vllm_bench.records.run_info import ClockPair
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import NOON_S
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, NOTE, SUSPECT, families_of, healthy, severity_of


def health(**changes):
    worker = {"worker": 0, "streams": 2, "lost": False, "cpu_share_per_second": [0.1, 0.2]}
    lag = changes.pop("lag_p99_ms", 0.1)
    lost = {"worker": 1, "streams": 2, "lost": True, "cpu_share_per_second": []}
    workers = [{**worker, **changes}, *([lost] if changes.pop("one_lost", False) else [])]
    return {"workers": workers, "loop_lag_ms": {"ticks": 1000, "p99": lag}}


# A TTFT of 100 ms, a decode of 900 ms, a gap of 47 ms between tokens.
@pytest.mark.parametrize(
    ("lag_p99_ms", "expected"),
    [
        (5.0, {}),  # not above the floor
        (5.1, {"TTFT": SUSPECT, "gaps": SUSPECT}),
        (8.0, {"TTFT": SUSPECT, "gaps": SUSPECT}),  # nothing, over a decode of 900 ms
        (20.0, {"TTFT": SUSPECT, "gaps": SUSPECT}),  # over 20 % of a gap, but not above 20 ms
        (20.1, {"TTFT": INVALID, "gaps": INVALID}),
        (60.0, {"TTFT": INVALID, "gaps": INVALID, "pace": SUSPECT}),
        (200.0, {"TTFT": INVALID, "gaps": INVALID, "pace": INVALID}),
    ],
)
def test_a_late_loop_stands_in_for_the_stamps_error(tmp_path, lag_p99_ms, expected):
    late = health(lag_p99_ms=lag_p99_ms)
    assert families_of(facts_of(tmp_path, healthy(), client_health=late), "loop_lag") == expected


def test_a_fast_server_costs_the_figures_of_gaps_alone(tmp_path):
    records = healthy(ttft_ms=500.0, latency_ms=1500.0, tpot_ms=1.0)
    verdict = judge(facts_of(tmp_path, records, client_health=health(lag_p99_ms=6.0)))
    assert (verdict.level, verdict.doubts) == ("VALID", ())
    assert (verdict.of("gaps"), verdict.of("TTFT"), verdict.of("pace")) == (
        "SUSPECT",
        "VALID",
        "VALID",
    )
    assert [f.code for f in verdict.notes] == ["loop_lag"]  # worth knowing all the same


def test_an_objective_on_gaps_makes_them_part_of_the_runs_word(tmp_path):
    records = healthy(ttft_ms=500.0, latency_ms=1500.0, tpot_ms=1.0)
    asked = {"slo": {"max_gap_ms": {"p50": 100}}}
    facts = facts_of(tmp_path, records, client_health=health(lag_p99_ms=6.0), scenario=asked)
    assert judge(facts).level == judge(facts).of("gaps") == "SUSPECT"


@pytest.mark.parametrize(("ticks", "expected"), [(367, None), (368, INVALID)])
def test_a_p99_of_a_few_ticks_doubts_nothing(tmp_path, ticks, expected):
    late = {"loop_lag_ms": {"ticks": ticks, "p99": 50.0}}
    assert severity_of(facts_of(tmp_path, healthy(), client_health=late), "loop_lag") == expected


def stamped(clock, ttft_ms, gaps_ms, error_ms=0.0001):
    """The health of a client that read so late at p99, by the kernel's stamps."""
    late = {
        name: {"reads": 100, "p50": 0.02, "p99": ms, "max": ms}
        for name, ms in {"ttft": ttft_ms, "gaps": gaps_ms}.items()
    }
    return {"clock": clock, "clock_error_ms": error_ms, "lateness_ms": late}


STEPPED = "kernel until a step at 3.0 s"


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (stamped(STEPPED, 2.0, 0.9), {}),  # 2 % of 100 ms and of 47 ms, not more
        (stamped(STEPPED, 2.1, 0.9), {"TTFT": SUSPECT}),
        (stamped(STEPPED, 10.1, 0.9), {"TTFT": INVALID}),
        (stamped(STEPPED, 2.0, 1.0), {"gaps": SUSPECT}),
        (stamped(STEPPED, 2.0, 5.0), {"gaps": INVALID}),
        (stamped(STEPPED, 2.0, 19.0), {"gaps": INVALID, "pace": SUSPECT}),
        (stamped(STEPPED, 91.0, 0.1), {"TTFT": INVALID, "pace": INVALID}),
        # A read that is late doesn't falsify a stamp of the kernel's; clocks that differ do.
        (stamped("kernel", 91.0, 40.0), {}),
        (stamped("kernel", 0.1, 0.1, error_ms=1.0), {"gaps": SUSPECT}),
    ],
)
def test_an_error_that_was_measured_is_held_against_the_figure_that_it_enters(
    tmp_path, late, expected
):
    facts = facts_of(tmp_path, healthy(), client_health=health(lag_p99_ms=80.0) | late)
    assert families_of(facts, "stamp_error") == expected
    assert severity_of(facts, "loop_lag") is None  # it explains, and no longer judges


def test_without_the_kernels_stamps_the_loops_lag_stands_in(tmp_path):
    own = {"clock": "process", "clock_error_ms": None, "lateness_ms": None}
    facts = facts_of(tmp_path, healthy(), client_health=health(lag_p99_ms=80.0) | own)
    assert severity_of(facts, "stamp_error") is None
    assert severity_of(facts, "loop_lag") == INVALID


@pytest.mark.parametrize(("share", "expected"), [(0.70, None), (0.71, NOTE), (1.0, NOTE)])
def test_a_sending_process_near_its_core_is_noted(tmp_path, share, expected):
    busy = health(cpu_share_per_second=[0.1, share, 0.2])
    assert severity_of(facts_of(tmp_path, healthy(), client_health=busy), "client_cpu") == expected


def merging(folder, reads, late):
    """Replies of 20 events in so many reads, seen by a client of that health."""
    return facts_of(folder, healthy(token_reads=reads), client_health=late)


@pytest.mark.parametrize(
    "late",
    [
        lambda ms: health(lag_p99_ms=ms),
        # The kernel's stamps tell how late reads were, whatever the loop's ticks say.
        lambda ms: health(lag_p99_ms=0.0) | stamped("kernel", 0.1, ms),
        lambda ms: health(lag_p99_ms=90.0) | stamped("kernel", 90.0, ms),
    ],
)
@pytest.mark.parametrize(
    ("reads", "late_p99_ms", "expected"),
    [
        (20, 30.0, {}),
        (19, 30.0, {"gaps": SUSPECT}),  # 5 %
        (17, 30.0, {"gaps": INVALID}),  # 15 %
        (17, 20.0, {}),  # not late by half a gap of 47 ms: the server's own doing
    ],
)
def test_events_that_a_late_client_found_together_cost_the_gaps(
    tmp_path, late, reads, late_p99_ms, expected
):
    facts = merging(tmp_path, reads, late(late_p99_ms))
    assert families_of(facts, "merged_reads") == expected


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
    facts = facts_of(tmp_path, healthy(), clock_end=end)
    assert severity_of(facts, "clock_drift") == expected
    assert judge(facts).level == "VALID"  # no latency is computed from the wall clock
