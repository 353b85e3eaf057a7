"""One bad machine among good ones is found, and named; good ones beside it hide nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import facts_of as facts_of_run
from vllm_bench.verdict.verdict import judge

from tests.machines.made import NAMES, made_health, of_machines
from tests.support.made_runs import (
    failed_record,
    made_info,
    made_record,
    server_row,
    write_run,
    write_server_rows,
)
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, NOTE, SUSPECT, families_of, severity_of

TEN = tuple(f"node-{n}" for n in range(10))


def ten(folder, *, machines=None, senders=None, records=None, **changes):
    """A run of ten machines with a stream each, ten requests a second."""
    if records is None:
        records = [made_record(i, concurrency=10) for i in range(400)]
    health = made_health(TEN, machines=machines, senders=senders, **changes)
    return facts_of(folder, of_machines(records, TEN), client_health=health)


OWN_CLOCK = {"clock": "process", "clock_error_ms": None}


def test_a_loop_that_is_late_on_one_machine_of_ten_is_named(tmp_path):
    late = {"node-7": {**OWN_CLOCK, "lag_p99_ms": 60.0}}
    facts = ten(tmp_path, senders=late, **OWN_CLOCK)
    assert families_of(facts, "loop_lag") == {"TTFT": INVALID, "gaps": INVALID, "pace": SUSPECT}
    assert "node-7" in finding_of(facts, "loop_lag").figures


def test_a_late_loop_doubts_nothing_where_the_kernel_stamped(tmp_path):
    facts = ten(tmp_path, senders={"node-7": {"lag_p99_ms": 60.0}})
    assert severity_of(facts, "loop_lag") is None


def test_the_run_counts_as_stamped_by_each_machine_itself(tmp_path):
    """A machine without the kernel's stamps costs those of the others nothing."""
    late = {name: {"lag_p99_ms": 60.0} for name in TEN[1:]}
    senders = {**late, "node-0": {**OWN_CLOCK, "lag_p99_ms": 0.1}}
    facts = ten(tmp_path, senders=senders, **OWN_CLOCK)
    assert severity_of(facts, "loop_lag") is None


@pytest.mark.parametrize(("error_ms", "expected"), [(0.9, {}), (3.0, {"TTFT": SUSPECT})])
def test_clocks_that_differ_on_one_machine(tmp_path, error_ms, expected):
    senders = {"node-3": {"clock_error_ms": error_ms}}
    records = [made_record(i, concurrency=10, tpot_ms=400.0, latency_ms=9000.0) for i in range(400)]
    facts = ten(tmp_path, senders=senders, records=records)
    assert families_of(facts, "stamp_error") == expected
    if expected:
        assert "node-3" in finding_of(facts, "stamp_error").figures


def test_a_step_of_one_machines_clock_is_held_against_its_own_lateness(tmp_path):
    stepped = {"clock": "kernel until a step at 3.0 s", "clock_error_ms": 0.001}
    late = {
        name: {"reads": 100, "p50": 0.02, "p99": 12.0, "max": 12.0} for name in ("ttft", "gaps")
    }
    facts = ten(
        tmp_path,
        senders={"node-3": stepped},
        machines={"node-3": {"lateness_ms": late}},
        **stepped,
    )
    assert families_of(facts, "stamp_error")["TTFT"] == INVALID
    assert "node-3" in finding_of(facts, "stamp_error").figures


def test_a_busy_core_is_named_with_its_machine(tmp_path):
    facts = ten(tmp_path, senders={"node-9": {"cpu_share_per_second": [0.1, 0.95]}})
    assert severity_of(facts, "client_cpu") == NOTE
    assert "node-9" in finding_of(facts, "client_cpu").figures


def test_late_sends_of_one_machine_are_named(tmp_path):
    """Pooled, a tenth of the requests moves no median; to its own users it is all of them."""
    records = [
        made_record(i, request_rate=20.0, send_lag_ms=30.0 if i % 10 == 4 else 0.1)
        for i in range(2000)
    ]
    records = [
        made_record(i, request_rate=20.0, stream_index=i % 10, send_lag_ms=r.send_lag_ms)
        for i, r in enumerate(records)
    ]
    facts = ten(tmp_path, records=records)
    found = finding_of(facts, "send_lag")
    assert found is not None
    assert found.severity == INVALID
    assert "node-4" in found.figures


def test_several_late_machines_are_one_finding(tmp_path):
    late = {f"node-{n}": {**OWN_CLOCK, "lag_p99_ms": 20.0 + n} for n in (2, 5, 8)}
    facts = ten(tmp_path, senders=late, **OWN_CLOCK)
    of_ttft = [f for f in judge(facts).findings if (f.code, f.about) == ("loop_lag", "TTFT")]
    assert len(of_ttft) == 1
    assert "node-8" in of_ttft[0].figures
    assert "2 others" in of_ttft[0].figures


def test_where_all_machines_are_late_none_is_named(tmp_path):
    late = {name: {**OWN_CLOCK, "lag_p99_ms": 60.0} for name in TEN}
    lag = {"ticks": 10_000, "p99": 60.0, "max": 80.0}
    facts = ten(tmp_path, senders=late, loop_lag_ms=lag, **OWN_CLOCK)
    assert families_of(facts, "loop_lag") == {"TTFT": INVALID, "gaps": INVALID, "pace": SUSPECT}
    assert "node" not in finding_of(facts, "loop_lag").figures


@pytest.mark.parametrize(("behind", "named"), [({4}, True), (set(range(10)), False)])
def test_a_proxy_before_one_machine_is_told_from_one_before_the_server(tmp_path, behind, named):
    records = [
        made_record(i, concurrency=10, token_reads=1 if i % 10 in behind else 20)
        for i in range(400)
    ]
    facts = ten(tmp_path, records=records)
    found = finding_of(facts, "buffered")
    assert found is not None
    assert found.severity == INVALID
    assert ("node-4" in found.figures) == named


@pytest.mark.parametrize(("late_ms", "own"), [(0.5, False), (134.0, True)])
def test_lumps_on_a_machine_that_reads_late_are_its_own_doing_first(tmp_path, late_ms, own):
    """Stopped for moments, it finds several events at once, as from behind a proxy."""
    records = [
        made_record(i, concurrency=10, token_reads=10 if i % 10 == 4 else 20) for i in range(400)
    ]
    late = {"reads": 100, "p50": 0.1, "p99": late_ms, "max": late_ms}
    machines = {"node-4": {"lateness_ms": {"ttft": late, "gaps": late}}}
    found = finding_of(ten(tmp_path, records=records, machines=machines), "buffered")
    assert found is not None
    assert "node-4" in found.figures
    assert ("more CPU" in found.advice) == own
    assert ("134 ms" in found.figures) == own


# ---- the load ----


def test_failures_of_one_machine_blame_it(tmp_path):
    """It reaches the server by another way: each of its requests fails."""
    records = [
        (failed_record if i % 10 == 6 else made_record)(i, concurrency=10) for i in range(400)
    ]
    found = finding_of(ten(tmp_path, records=records), "errors")
    assert found is not None
    assert found.severity == INVALID
    assert "node-6" in found.figures


def test_failures_of_all_machines_blame_none(tmp_path):
    records = [
        (failed_record if i % 7 == 0 else made_record)(i, concurrency=10) for i in range(400)
    ]
    found = finding_of(ten(tmp_path, records=records), "errors")
    assert found is not None
    assert "node" not in found.figures


def test_a_machine_that_held_half_its_streams_is_named_where_the_load_was_held(tmp_path):
    """A hundred streams, of which one machine's are idle half of the time: 0.5 % of the load."""
    names = tuple(f"node-{n:02}" for n in range(100))
    records = []
    for i in range(4000):
        lane, turn = i % 100, i // 100
        busy_s = 0.5 if lane == 42 else 1.0
        records.append(
            made_record(
                i,
                concurrency=100,
                t_sent_s=turn + 1 - busy_s + lane / 1000,
                t_scheduled_s=turn + lane / 1000,
                latency_ms=1000 * busy_s,
            )
        )
    health = made_health(names)
    facts = facts_of(tmp_path, of_machines(records, names), client_health=health)
    found = finding_of(facts, "rate_shortfall")
    assert found is not None
    assert found.severity == NOTE  # the server got its load
    assert "node-42" in found.figures


def test_names_of_machines_are_escaped_where_they_are_told(tmp_path):
    bad = "evil\x1b[31m|<b>"
    names = (bad, *NAMES[1:])
    health = made_health(names, senders={bad: {"cpu_share_per_second": [0.99]}})
    facts = facts_of(
        tmp_path, of_machines([made_record(i) for i in range(100)], names), client_health=health
    )
    assert "\x1b" not in finding_of(facts, "client_cpu").figures


@pytest.mark.parametrize(("trip_ms", "expected"), [(60.0, {}), (0.1, {"TTFT": SUSPECT})])
def test_how_far_each_machine_is_from_the_server_counts_by_its_requests(
    tmp_path, trip_ms, expected
):
    """What takes as long as its network does isn't held back in between."""
    ttft_ms = {"near": 100.0, "far": 160.0}
    records = [made_record(i, concurrency=10) for i in range(400)]
    records = [
        replace(r, ttft_ms=ttft_ms[r.machine]) for r in of_machines(records, ("near", "far"))
    ]
    senders = {"near": {"trip_ms": 0.1}, "far": {"trip_ms": trip_ms}}
    info = made_info(records, client_health=made_health(("near", "far"), senders=senders))
    path = write_run(tmp_path, records, info)
    means = {"ttft_count": 4, "ttft_mean_ms": 99.0}
    write_server_rows(path, [server_row(float(t), **means) for t in range(42)])
    assert families_of(facts_of_run(load_run(path)), "buffered") == expected
