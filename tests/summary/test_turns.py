"""Conversations: a stream that thinks is held, and TTFT is told turn by turn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from vllm_bench.figures.window import Window
from vllm_bench.records.text import ABSENT
from vllm_bench.tables.document import to_json
from vllm_bench.tables.markdown import to_markdown

from tests.support.made_runs import failed_record, made_record, summary_of
from tests.support.open_runs import facts_of, finding_of

THINK_S = 4.0


def talks(streams=4, conversations=8, turns=3, *, late_s=0.0, **changes):
    """Conversations of a second a turn and four seconds of thinking, one after the other.

    Streams begin one after the other, so that no two ever have a request in flight.
    """
    records = []
    for stream in range(streams):
        at_s = 1.2 * stream
        for number in range(conversations):
            for turn in range(1, turns + 1):
                lag_s = late_s if turn > 1 else 0.0
                records.append(
                    made_record(
                        len(records),
                        concurrency=streams,
                        stream_index=stream,
                        t_scheduled_s=at_s,
                        t_sent_s=at_s + lag_s,
                        send_lag_ms=1000 * lag_s,
                        ttft_ms=100.0 * turn,
                        prompt_tokens=100 * turn,
                        **{"conversation_id": f"{stream}-{number}", "turn": turn, **changes},
                    )
                )
                at_s += lag_s + 1.0 + (THINK_S if turn < turns else 0.0)
    return records


def test_a_stream_that_thinks_is_held(tmp_path):
    facts = facts_of(tmp_path, talks())
    # Three turns of a second and two pauses of four make 11 s, eight times over; the last stream
    # has ended its first turn at 4.6 s, and the first one is done at 88 s.
    assert facts.window == Window(pytest.approx(4.6), pytest.approx(88.0))
    assert finding_of(facts, "rate_shortfall") is None


def test_a_stream_that_waits_for_the_client_is_not(tmp_path):
    assert finding_of(facts_of(tmp_path, talks(late_s=0.5)), "rate_shortfall") is not None


def test_fewer_conversations_than_streams_is_what_is_wrong(tmp_path):
    records = [replace(r, concurrency=6) for r in talks(streams=2, conversations=2)]
    facts = facts_of(tmp_path, records, scenario={"conversations": {"turns": 3}})
    found = finding_of(facts, "rate_shortfall")
    assert found is not None
    assert "3 turns" in found.advice


def test_ttft_is_told_turn_by_turn(tmp_path):
    summary = summary_of(tmp_path, talks(streams=8, cached_tokens=50))
    assert [(t.turn, t.n) for t in summary.turns] == [("1", 56), ("2", 57), ("3", 57)]
    assert [t.ttft_p50_ms for t in summary.turns] == [100, 200, 300]
    assert [t.ttft_p95_ms for t in summary.turns] == [None] * 3  # takes 72
    assert [t.prompt_tokens_mean for t in summary.turns] == [100, 200, 300]
    assert [t.cached_share for t in summary.turns] == [0.5, 0.25, pytest.approx(1 / 6)]
    text = to_markdown([summary])
    assert "| 8 | 2 | 57 | 200 | needs 72 | 200 | 25.0 % |" in text
    (run,) = json.loads(to_json([summary]))["runs"]
    assert run["turns"][2]["ttft_p50_ms"] == 300


def test_a_turn_that_failed_is_in_no_percentile(tmp_path):
    records = talks(streams=1, conversations=7)
    before = [t.n for t in summary_of(tmp_path, records).turns]
    records[4] = failed_record(4, concurrency=1, conversation_id="x", turn=2, t_sent_s=16.0)
    (tmp_path / f"{records[0].run_id}.csv").unlink()
    after = [t.n for t in summary_of(tmp_path, records).turns]
    assert (before, after) == ([6, 7, 7], [6, 6, 7])


def test_what_nobody_said_of_the_cache_is_absent(tmp_path):
    summary = summary_of(tmp_path, talks(streams=1))
    assert {t.cached_share for t in summary.turns} == {None}
    assert summary.cached_tokens is None
    why = summary.server_side.absent["prefix_cache_hit_rate"]
    assert f"cached {ABSENT}: {why}" in to_markdown([summary])


def test_requests_that_are_no_turns_have_no_such_table(tmp_path):
    summary = summary_of(tmp_path, [made_record(i, cached_tokens=30) for i in range(100)])
    assert summary.turns == ()
    assert summary.cached_tokens == 3000
    text = to_markdown([summary])
    assert "by turn" not in text
    assert "| 12.0 % |" in text
