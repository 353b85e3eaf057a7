"""Were the machines whole, at one time, and several? Each code on both sides of its limit."""

from __future__ import annotations

from typing import Any

import pytest
from vllm_bench.verdict.verdict import judge

from tests.machines.made import NAMES, made_health, made_sender, of_machines, sent_by
from tests.support.made_runs import made_record
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, NOTE, SUSPECT, families_of, severity_of

CODES = {"machine_lost", "clock_skew", "start_apart", "machine_nice", "machine_twice"}


def run_of(folder, machines=None, *, senders=None, records=None, **changes):
    """Facts of a run of four machines, of which one is different."""
    health = made_health(machines=machines, senders=senders)
    return facts_of(folder, records or sent_by(), client_health=health, **changes)


def test_four_healthy_machines_raise_no_doubt(tmp_path):
    verdict = judge(run_of(tmp_path))
    assert verdict.level == "VALID"
    assert not CODES & {f.code for f in verdict.findings}


def test_a_machine_alone_is_none_of_several(tmp_path):
    facts = facts_of(tmp_path, [made_record(i) for i in range(100)])
    assert not CODES & {f.code for f in judge(facts).findings}
    assert facts.machines == {}


# ---- lost ----


@pytest.mark.parametrize(
    ("machines", "senders"),
    [
        ({"node-c": {"lost": "was silent for 10 s"}}, None),
        ({"node-c": {"lost": ""}}, None),  # nobody knows how
        (None, {"node-c": {"lost": True}}),  # a sending process of it
    ],
)
def test_a_lost_machine_spoils_the_run_and_is_named_once(tmp_path, machines, senders):
    facts = run_of(tmp_path, machines, senders=senders, num_requests=120, status="complete")
    found = finding_of(facts, "machine_lost")
    assert found is not None
    assert found.severity == INVALID
    assert "node-c" in found.figures
    assert "20 requests" in found.figures  # without a row
    assert "--resume" in found.advice
    codes = {f.code for f in judge(facts).findings}
    assert not codes & {"worker_lost", "interrupted", "window_short", "rate_shortfall"}


@pytest.mark.parametrize(
    ("records", "scenario", "words", "never"),
    [
        # By time there are as many as were told to have begun: more were under way, or never began.
        ({"num_requests": 100}, {"duration_s": 25.0}, "nobody knows how many", "0 requests"),
        ({"num_requests": 103}, {"duration_s": 25.0}, "at least 3 requests", "nobody"),
        ({"num_requests": 103}, {}, "3 requests", "at least"),
        ({"num_requests": 100}, {}, "every request has a row", "0 requests"),
    ],
)
def test_what_a_lost_machine_took_along_is_told_as_far_as_it_is_known(
    tmp_path, records, scenario, words, never
):
    facts = run_of(tmp_path, {"node-c": {"lost": "died"}}, scenario=scenario, **records)
    figures = finding_of(facts, "machine_lost").figures
    assert words in figures
    assert never not in figures


def test_of_a_schedule_it_is_known_to_the_request_by_time_too(tmp_path):
    lost, timed = {"node-c": {"lost": "died"}}, {"duration_s": 25.0}
    facts = run_of(tmp_path, lost, records=open_records(), scenario=timed, num_requests=420)
    figures = finding_of(facts, "machine_lost").figures
    assert "20 requests" in figures
    assert "at least" not in figures


def test_how_a_machine_was_lost_is_text_from_elsewhere(tmp_path):
    facts = run_of(tmp_path, {"node-b": {"lost": "died\x1b[2J\nof " + "x" * 5000}})
    figures = finding_of(facts, "machine_lost").figures
    assert "\x1b" not in figures
    assert "\n" not in figures
    assert len(figures) < 500


def test_rows_that_came_afterwards_are_told(tmp_path):
    lost = {"node-b": {"lost": "died", "fetched": 17}, "node-a": {"fetched": 25}}
    assert ", 17 came after" in finding_of(run_of(tmp_path, lost), "machine_lost").figures


def test_of_one_machine_a_lost_process_keeps_its_own_code(tmp_path):
    alone = {"workers": [{**made_sender("x", lost=True), "machine": None}, {"lost": False}]}
    facts = facts_of(tmp_path, [made_record(i) for i in range(100)], client_health=alone)
    assert severity_of(facts, "worker_lost") == INVALID
    assert severity_of(facts, "machine_lost") is None
    facts = facts_of(
        tmp_path, sent_by(names=("x",)), client_health=alone, scenario={"duration_s": 25.0}
    )
    assert "nobody knows how many" in finding_of(facts, "worker_lost").figures


# ---- clocks ----


# A window of 23 s: 1 % of it is 230 ms, 10 % are 2.3 s.
@pytest.mark.parametrize(
    ("error_ms", "expected"),
    [(0.0, None), (20.0, None), (20.1, SUSPECT), (231.0, SUSPECT), (2500.0, INVALID)],
)
def test_a_clock_that_is_known_too_badly_doubts_rates_alone(tmp_path, error_ms, expected):
    facts = run_of(tmp_path, {"node-d": {"offset_error_ms": error_ms}})
    assert families_of(facts, "clock_skew") == ({"pace": expected} if expected else {})
    if expected:
        assert "node-d" in finding_of(facts, "clock_skew").figures
    assert judge(facts).of("TTFT") == "VALID"  # a difference on one clock


def test_in_a_short_window_less_is_too_much(tmp_path):
    quick = [made_record(i, latency_ms=20.0, t_sent_s=i // 4 * 0.04) for i in range(100)]
    facts = run_of(tmp_path, {"node-d": {"offset_error_ms": 15.0}}, records=of_machines(quick))
    assert facts.judged_s < 1.5
    assert severity_of(facts, "clock_skew") == SUSPECT


def test_a_clock_that_answered_no_ping_is_not_known(tmp_path):
    unknown = {"node-a": {"offset_error_ms": None}}
    assert severity_of(run_of(tmp_path, unknown), "clock_skew") == SUSPECT
    lost = {"node-a": {"offset_error_ms": None, "lost": "died"}}
    assert severity_of(run_of(tmp_path, lost), "clock_skew") is None  # that is said already


# ---- the start ----


def open_records() -> list[Any]:
    return of_machines([made_record(i, request_rate=8.0) for i in range(400)])


STAGGERED: dict[str, Any] = {"plan": {"start": "staggered"}}
TOGETHER: dict[str, Any] = {"plan": {"start": "together"}}


@pytest.mark.parametrize(
    ("early_ms", "late_ms", "changes", "expected"),
    [
        (0.0, 5.0, STAGGERED, None),
        (0.0, 5.1, STAGGERED, NOTE),
        (-3.0, 3.0, TOGETHER, SUSPECT),  # apart from each other, not from the instant
        (6.0, 6.0, TOGETHER, None),
    ],
)
def test_machines_that_start_apart(tmp_path, early_ms, late_ms, changes, expected):
    apart = {name: {"start_apart_ms": early_ms} for name in NAMES}
    facts = run_of(tmp_path, {**apart, "node-c": {"start_apart_ms": late_ms}}, **changes)
    assert severity_of(facts, "start_apart") == expected
    if expected is not None:
        assert "node-c" in finding_of(facts, "start_apart").figures


def test_a_schedule_from_machines_that_start_apart_is_another(tmp_path):
    late = {"node-b": {"start_apart_ms": 40.0}}
    assert severity_of(run_of(tmp_path, late, records=open_records()), "start_apart") == SUSPECT


# ---- what machines are ----


@pytest.mark.parametrize(("nice", "expected"), [(0, None), (-5, None), (None, None), (15, NOTE)])
def test_a_machine_that_lets_others_go_first(tmp_path, nice, expected):
    facts = run_of(tmp_path, {"node-b": {"nice": nice}})
    assert severity_of(facts, "machine_nice") == expected
    if expected is not None:
        found = finding_of(facts, "machine_nice")
        assert "node-b" in found.figures
        assert "RAY_worker_niceness=0" in found.advice


@pytest.mark.parametrize(
    ("boots", "expected"),
    [
        (("1", "2", "3", "4"), None),
        (("1", "2", "1", "4"), NOTE),
        ((None, None, None, None), None),  # not Linux
    ],
)
def test_machines_with_one_boot_id_are_one(tmp_path, boots, expected):
    found = {name: {"boot_id": boot} for name, boot in zip(NAMES, boots, strict=True)}
    facts = run_of(tmp_path, found)
    assert severity_of(facts, "machine_twice") == expected
    if expected is not None:
        assert "node-a and node-c" in finding_of(facts, "machine_twice").figures


def test_the_machine_beside_the_server_is_named(tmp_path):
    facts = run_of(tmp_path, {"node-b": {"server_here": True}})
    found = finding_of(facts, "same_machine")
    assert found is not None
    assert "node-b" in found.figures
    assert "1 of 4" in found.figures


def test_a_head_beside_the_server_is_told_as_one(tmp_path):
    facts = run_of(tmp_path, server={"on_client_machine": True})
    assert "head" in finding_of(facts, "same_machine").figures


@pytest.mark.parametrize(
    "odd",
    [
        3,
        [3, None, "x", []],
        [{}],
        [{"machine": None}],
        [{"machine": "x" * 400}],
        [{"machine": "a", "lost": 3, "nice": "low", "offset_error_ms": -1, "boot_id": []}],
    ],
)
def test_machines_that_somebody_edited_are_left_out(tmp_path, odd):
    health = {**made_health(), "machines": odd}
    facts = facts_of(tmp_path, sent_by(), client_health=health)
    assert judge(facts).level == "VALID"
