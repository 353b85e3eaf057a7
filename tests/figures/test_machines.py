"""What each machine of a run sent and saw; whose connections are whose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.figures.machines.dealt import dealt_to
from vllm_bench.figures.machines.machine import clock_words, machines_of
from vllm_bench.figures.machines.side import machine_sides
from vllm_bench.records.row import Rows
from vllm_bench.records.text import listed

from tests.machines.made import NAMES, made_health, of_machines, sent_by
from tests.support.made_runs import failed_record, made_info, made_record
from tests.support.open_runs import facts_of, finding_of


def rows_of(owners: Sequence[int], count: int) -> Rows:
    """Rows of connections 0 to `count`, dealt in rounds."""
    numbers = np.arange(count)
    names = np.array([f"m{owners[n % len(owners)]}" for n in numbers], dtype=object)
    return Rows({"machine": names, "stream_index": numbers})


@settings(max_examples=60, deadline=None)
@given(
    owners=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    rounds=st.integers(1, 4),
    cap=st.integers(0, 60),
)
def test_whose_connections_are_whose_shows_in_the_rows(owners, rounds, cap):
    count = len(owners) * rounds
    found = dealt_to(rows_of(owners, count))
    for machine in set(owners):
        mine = [n for n in range(count) if owners[n % len(owners)] == machine]
        ranks = found[f"m{machine}"].ranks(np.array(mine))
        assert ranks.tolist() == list(range(len(mine)))
    if rounds > 1:  # else nobody knows how it goes on
        caps = sum(dealt.below(cap) for dealt in found.values())
        assert caps == cap


def test_a_number_that_two_machines_claim_breaks_nothing():
    rows = Rows(
        {"machine": np.array(["a", "b", None], dtype=object), "stream_index": np.array([7, 7, 3])}
    )
    assert set(dealt_to(rows)) <= {"a", "b", "None"}


@pytest.mark.parametrize("senders", [1, 2])
def test_a_cap_is_shared_out_by_machine(tmp_path, senders):
    """Unequal machines: one has three of four connections, so it may have three in flight."""
    names = ("big", "big", "big", "small")
    # Each second four requests are due, one of each connection; each takes 0.9 s.
    records = [
        dataclasses.replace(
            made_record(
                i,
                request_rate=4.0,
                t_scheduled_s=float(i // 4),
                latency_ms=900.0,
                stream_index=i % 4,
            ),
            machine=names[i % 4],
        )
        for i in range(200)
    ]
    # The small machine's request waits while its only connection is busy.
    late = dataclasses.replace(
        records[103], t_scheduled_s=24.5, t_sent_s=24.9, send_lag_ms=400.0, t_end_s=25.8
    )
    records[103] = late
    health = made_health(("big", "small"))
    health["workers"] = [
        {**worker, "worker": n} for worker in health["workers"] for n in range(senders)
    ]
    facts = facts_of(tmp_path, records, client_health=health, plan={"max_in_flight": 4})
    waited = np.flatnonzero(facts.waited_for_cap)
    assert waited.tolist() == [103]
    assert facts.machines["small"].waited_for_cap.sum() == 1
    assert facts.machines["big"].waited_for_cap.sum() == 0


def test_each_machine_has_its_own_figures(tmp_path):
    records = [
        made_record(i, ttft_ms=300.0 if i % 4 == 2 else 100.0, latency_ms=1000.0)
        for i in range(200)
    ]
    records[10] = failed_record(10)
    machines = {"node-b": {"offset_ms": -5.0, "start_apart_ms": 1.5}}
    senders = {"node-b": {"lag_p99_ms": 7.0, "cpu_share_per_second": [0.6]}}
    facts = facts_of(
        tmp_path,
        of_machines(records),
        client_health=made_health(machines=machines, senders=senders),
    )
    sides = {side.machine: side for side in machine_sides(facts)}
    assert list(sides) == list(NAMES)
    assert {side.rows for side in sides.values()} == {50}
    assert (sides["node-c"].failed, sides["node-a"].failed) == (1, 0)
    assert sides["node-c"].p50_ms == pytest.approx(300.0)
    assert sides["node-a"].p50_ms == pytest.approx(100.0)
    assert sides["node-a"].requests_per_s == pytest.approx(1.0, rel=0.05)
    assert sides["node-b"].loop_lag_p99_ms == 7.0
    assert sides["node-b"].cpu_busiest == 0.6
    assert sides["node-b"].offset_ms == -5.0
    assert sides["node-b"].start_apart_ms == 1.5
    assert sides["node-b"].stamp_error_ms == pytest.approx(0.0001)


def test_a_machine_without_a_row_has_a_place_in_the_table(tmp_path):
    records = [made_record(i, concurrency=3) for i in range(90)]
    lost = {"node-d": {"lost": "died"}}
    facts = facts_of(
        tmp_path, of_machines(records, NAMES[:3]), client_health=made_health(machines=lost)
    )
    side = list(machine_sides(facts))[3]
    assert (side.machine, side.rows, side.p50_ms, side.lost) == ("node-d", 0, None, "died")


def test_a_run_of_one_machine_has_none(tmp_path):
    facts = facts_of(tmp_path, [made_record(i) for i in range(20)])
    assert list(machine_sides(facts)) == []
    assert machines_of(None) == []


def test_of_a_run_whose_head_was_killed_the_rows_tell_the_machines(tmp_path):
    records = sent_by(40, names=NAMES[:2])
    for health in ({}, {"machines": []}):
        facts = facts_of(tmp_path, records, client_health=health, status="running")
        assert [(s.machine, s.rows) for s in machine_sides(facts)] == [
            ("node-a", 20),
            ("node-b", 20),
        ]
        assert finding_of(facts, "interrupted") is not None
    assert [s.rows for s in machine_sides(dataclasses.replace(facts, info=None))] == [20, 20]


def test_clocks_that_differ_are_told_by_machine():
    own = {"clock": "process", "clock_error_ms": None}
    records = sent_by(20)
    alike = made_info(records, client_health=made_health())
    assert clock_words(alike) == "kernel"
    one = made_info(records, client_health=made_health(senders={"node-c": own}, **own))
    assert clock_words(one) == "kernel (3 machines), process (node-c)"
    assert clock_words(made_info(records)) is None


@pytest.mark.parametrize(("count", "words"), [(1, "a"), (3, "a, b, c"), (5, "a, b, c and 2 more")])
def test_of_many_machines_a_few_are_named(count, words):
    assert listed("abcdefg"[:count]) == words
