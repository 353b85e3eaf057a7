"""An open loop by its rows: its load, its window, its rate, and times from the schedule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.attained import attainment
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.metrics import headline_metric
from vllm_bench.figures.throughput import ArrivalRates, arrival_rates
from vllm_bench.figures.window import Window
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RecordsError
from vllm_bench.scenario.load import Load
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.document import to_json
from vllm_bench.tables.group import Where, groups_of
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.tables.vllm_format import to_vllm

from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_record,
    summary_of,
    summed,
    write_run,
)
from tests.support.open_runs import facts_of, stalled

SLO = {"ttft_ms": {"p95": 500.0}}


def even(count=200, rate=10.0, **changes):
    """A request each 1 / rate seconds, answered in a second."""
    return [made_record(i, request_rate=rate, **changes) for i in range(count)]


def figures(summary):
    return {c.name: c.value(summary) for c in SUMMARY_COLUMNS}


def test_a_healthy_open_loop_is_valid(tmp_path):
    summary = summary_of(tmp_path, even())
    assert summary.verdict.findings == ()
    assert summary.load == Load("requests/s", 10.0)
    assert summary.load.words == "10 requests/s"
    assert summary.concurrency is None


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load("requests/s", 1.0), "1 request/s"),
        (Load("requests/s", 2.5), "2.5 requests/s"),
        (Load("requests/s", 0.774644), "0.7746 requests/s"),
        (Load("requests/s", 1234.56), "1235 requests/s"),
        (Load("requests/s", 0.774644, speed=2.0), "0.7746 requests/s (trace x2)"),
        (Load("streams", 12345), "12345 streams"),
        (Load("streams", 1), "1 stream"),
        (Load("streams", 8), "8 streams"),
    ],
)
def test_a_load_has_words(load, words):
    assert load.words == words


def test_a_trace_s_speed_stands_beside_its_rate_and_is_no_load_of_its_own(tmp_path):
    plan = {"shape": "trace", "trace": "t.csv", "speed": 2.0}
    summary = summary_of(tmp_path, even(rate=0.774644), plan=plan)
    assert summary.load.words.endswith("requests/s (trace x2)")
    assert summary.load == Load("requests/s", 0.774644)
    assert "| 0.7746 (trace x2) |" in to_markdown([summary])


def test_without_their_json_the_rows_say_what_the_load_was(tmp_path):
    assert Facts(frame_of(tmp_path, even(3)), None).load == Load("requests/s", 10.0)
    assert Facts(frame_of(tmp_path, [made_record(0)]), None).load == Load("streams", 4)
    assert Facts(frame_of(tmp_path, []), None).load == Load("streams", 0)


def test_a_row_that_says_neither_streams_nor_rate_is_refused(tmp_path):
    path = write_run(tmp_path, [made_record(0), made_record(1, concurrency=None, t_sent_s=0.0)])
    with pytest.raises(RecordsError, match="line 3 has neither concurrency nor request_rate"):
        load_run(path)


def test_the_window_begins_a_latency_after_the_ramp_and_ends_with_the_last_arrival(tmp_path):
    assert facts_of(tmp_path, even()).window == Window(1.0, 19.9)
    assert facts_of(tmp_path, even(), plan={"ramp_s": 5.0}).window == Window(6.0, 19.9)
    assert facts_of(tmp_path, even(), plan={"ramp_s": 60.0}).window is None
    assert Facts(frame_of(tmp_path, even()), None).window == Window(1.0, 19.9)


def test_an_open_loop_without_a_success_has_no_window(tmp_path):
    records = [failed_record(i, request_rate=10.0) for i in range(20)]
    facts = facts_of(tmp_path, records)
    assert facts.window is None
    assert summary_of(tmp_path, records).verdict.level == "INVALID"


def test_requests_so_rare_that_none_is_in_flight_in_the_window_are_summed_up(tmp_path):
    records = [made_record(i, request_rate=0.1, latency_ms=1e-3, ttft_ms=0.0) for i in range(9)]
    held = summary_of(tmp_path, records).in_flight
    assert held is not None
    assert held.window_mean == pytest.approx(0, abs=1e-4)


def test_the_schedule_is_told_as_it_came_out_beside_what_was_asked(tmp_path):
    plan = {"shape": "poisson", "realised_rate": 9.3, "realised_cv": 1.04}
    summary = summary_of(tmp_path, even(), plan=plan)
    found = figures(summary)
    assert (found["concurrency"], found["request_rate"], found["repeat"]) == (None, 10.0, 1)
    assert (found["arrival"], found["realised_rate"], found["realised_cv"]) == (
        "poisson",
        9.3,
        1.04,
    )
    assert found["scheduled_rate"] == pytest.approx(10.0)
    assert "| 9.30 (cv 1.04) / 10.0 |" in to_markdown([summary])


def test_requests_that_never_went_are_a_shortfall_unless_somebody_stopped_the_run(tmp_path):
    def without(kind):
        gone = {"t_sent_s": None, "send_lag_ms": None, "error_kind": kind, "http_status": None}
        lost = [failed_record(i, request_rate=10.0, **gone) for i in range(150, 170)]
        return arrival_rates(frame_of(tmp_path, [*even(150), *lost, *even()[170:]]))

    refused, cancelled = without("connect"), without("cancelled")
    assert refused is not None
    assert refused.sent == pytest.approx(10 * 179 / 199)
    assert refused.scheduled == pytest.approx(10.0)
    assert cancelled is not None
    assert cancelled.sent == pytest.approx(cancelled.scheduled)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=30), st.floats(0, 1000))
def test_a_lag_that_all_requests_share_changes_no_rate(tmp_path, gaps, lag_ms):
    records, due = [], 0.0
    for i, gap in enumerate(gaps):
        due += gap
        records.append(made_record(i, request_rate=1.0, t_scheduled_s=due, send_lag_ms=lag_ms))
    found = arrival_rates(frame_of(tmp_path, records))
    assert isinstance(found, ArrivalRates)
    assert found.sent == pytest.approx(found.scheduled, rel=1e-3)  # rows hold microseconds


def test_nothing_that_a_stalled_client_held_back_is_left_out_of_the_headline(tmp_path):
    # Of 400 requests, 20 fell into a stall of 2 s: due evenly, they waited 1.05 s on average.
    summary = summary_of(
        tmp_path, stalled(10.0, 400, from_s=10.0, to_s=12.0), scenario={"slo": SLO}
    )
    assert summary.percentile("ttft_ms", 99) == 100
    assert summary.percentile("ttft_from_schedule_ms", 50) == 100
    assert summary.percentile("ttft_from_schedule_ms", 99) > 1500
    assert summary.percentile("latency_from_schedule_ms", 99) > 2500
    shown = [
        name for group in groups_of(Where.MARKDOWN, [summary]) for name in group.columns.values()
    ]
    assert "ttft_from_schedule_p99_ms" in shown
    assert "ttft_p95_ms" in shown


def test_what_the_client_held_back_is_late(tmp_path):
    records = stalled(10.0, 400, from_s=10.0, to_s=12.0)
    # The last four of the twenty waited at most 0.4 s. All are of one event, so the truth may be
    # anything.
    found = attainment(facts_of(tmp_path, records, scenario={"slo": {"ttft_ms": {"p99": 500}}}))
    assert found is not None
    (outcome,) = found.outcomes
    assert outcome.objective.metric == "ttft_from_schedule_ms"
    assert (outcome.share.late, outcome.word) == (16, "not shown")
    closed = [made_record(i, send_lag_ms=1500.0) for i in range(400)]
    by_the_send = attainment(facts_of(tmp_path, closed, scenario={"slo": SLO}))
    assert by_the_send is not None
    assert by_the_send.outcomes[0].share.late == 0


def test_latency_objectives_count_from_the_schedule_and_a_pace_does_not(tmp_path):
    slo = {"latency_ms": {"p50": 1200.0}, "tpot_ms": {"p50": 50.0}, "max_gap_ms": {"p50": 70.0}}
    found = attainment(facts_of(tmp_path, even(send_lag_ms=300.0), scenario={"slo": slo}))
    assert found is not None
    assert {o.objective.metric: o.met for o in found.outcomes} == {
        "latency_from_schedule_ms": False,
        "tpot_ms": True,
        "max_gap_ms": True,
    }


def test_a_closed_loop_is_judged_from_the_send():
    assert headline_metric("ttft_ms", Load("streams", 4)) == "ttft_ms"
    assert headline_metric("ttft_ms", Load("requests/s", 4)) == "ttft_from_schedule_ms"
    assert headline_metric("tpot_ms", Load("requests/s", 4)) == "tpot_ms"


def test_the_json_of_an_open_loop_is_plain(tmp_path):
    (run,) = json.loads(to_json([summary_of(tmp_path, even())]))["runs"]
    assert run["load"]["unit"] == "requests/s"
    assert run["turns"] == []


@pytest.mark.parametrize(
    ("plan", "burstiness", "most"),
    [
        ({"shape": "poisson"}, 1.0, None),
        ({"shape": "gamma", "cv": 2.0, "max_in_flight": 64}, 0.25, 64),
        ({"shape": "constant"}, "inf", None),
        ({"shape": "trace"}, None, None),
        ({"shape": "bursts", "burst_size": 8}, None, None),
    ],
)
def test_vllms_format_names_rate_burstiness_and_cap(tmp_path, plan, burstiness, most):
    found = json.loads(to_vllm(summary_of(tmp_path, even(), plan=plan)))
    assert found["request_rate"] == 10.0
    assert (found["burstiness"], found["max_concurrency"]) == (burstiness, most)
    assert found["mean_ttft_ms"] == 100.0


def test_without_its_json_an_open_loop_is_summed_up_all_the_same(tmp_path: Path) -> None:
    records = [made_record(i, request_rate=2.5, t_sent_s=i / 2.5) for i in range(40)]
    summary = summed(tmp_path, records, None)
    (run,) = json.loads(to_json([summary]))["runs"]
    assert run["load"]["value"] == 2.5
    assert "no_run_info" in [finding.code for finding in summary.verdict.findings]
