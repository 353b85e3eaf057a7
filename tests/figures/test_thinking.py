"""TTFA, thinking and unanswered replies: in figures, objectives, notes and tables."""

from __future__ import annotations

import csv
import io
import itertools

import pytest
from vllm_bench.charts.against_load import load_charts
from vllm_bench.charts.distributions import curves_of
from vllm_bench.figures.attained import attainment
from vllm_bench.figures.facts import Facts
from vllm_bench.records.row import to_csv
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.group import Where
from vllm_bench.tables.level_lines import sections
from vllm_bench.tables.text_tables import runs_table
from vllm_bench.tables.vllm_format import to_vllm

from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    summed,
    whole_reply_record,
)


def thinker(index: int, **changes):
    """A reply of 20 tokens: 12 thoughts from 100 ms on, the answer from 600 ms to 1,000 ms."""
    own = {"ttfa_ms": 600.0, "thoughts": "apart", "thinking_tokens": 12, "visible_events": 8}
    return made_record(index, **{**own, **changes})


def unanswered(index: int, **changes):
    nothing = {"ttfa_ms": None, "visible_events": 0, "thinking_tokens": 20}
    return thinker(index, **{**nothing, **changes})


@pytest.fixture
def summary(tmp_path):
    folders = itertools.count()

    def made(records, **scenario):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        info = made_info(records, scenario=scenario)
        return summed(folder, records, info)

    return made


@pytest.fixture
def outcome(tmp_path):
    """Hold records against one objective on TTFA."""

    def found(records, q="p50", limit=700, **scenario):
        slo = {"ttfa_ms": {q: limit}}
        info = made_info(records, scenario={"slo": slo, **scenario})
        result = attainment(Facts(frame_of(tmp_path, records), info))
        assert result is not None
        (one,) = result.outcomes
        return one

    return found


def test_the_figures_of_replies_that_think(summary):
    found = summary([thinker(i) for i in range(60)])
    dist = {name: d.percentiles.get(50.0) for name, d in found.distributions.items()}
    assert (dist["ttft_ms"], dist["ttfa_ms"]) == (100, 600)
    assert dist["thinking_s"] == pytest.approx(0.5)
    assert dist["thinking_tokens"] == 12
    assert dist["answer_tpot_ms"] == pytest.approx(400 / 7)
    assert found.thinking.token_share == pytest.approx(12 / 20)
    assert found.thinking.unanswered == found.thinking.unknown == 0


def test_of_several_choices_nobody_knows_the_pace_of_an_answer(summary):
    found = summary([thinker(i) for i in range(60)], extra_body={"n": 2})
    assert "answer_tpot_ms" in found.absent
    assert found.percentile("thinking_s", 50) == pytest.approx(0.5)


def test_without_thoughts_ttfa_is_ttft_and_nothing_else_is_said(summary):
    found = summary([made_record(i) for i in range(60)])
    assert found.thinking is None
    assert found.percentile("ttfa_ms", 50) == found.percentile("ttft_ms", 50)
    assert not {"thinking_s", "thinking_tokens", "answer_tpot_ms"} & (
        found.distributions.keys() | found.absent.keys()
    )
    (series,) = series_of([found])
    headings, _ = runs_table(series, Where.TERMINAL)
    assert not [heading for heading in headings if "TTFA" in heading or "thinking" in heading]
    assert "Thinking" not in [section.title for section in sections(series)]
    assert len(load_charts(series)) == 4


def test_unanswered_replies_are_counted_and_missing_in_ttfa(summary):
    found = summary([unanswered(i) if i % 4 == 0 else thinker(i) for i in range(80)])
    of, left = found.thinking.of, found.thinking.unanswered
    assert left == pytest.approx(of / 4, abs=1)
    assert found.distributions["ttfa_ms"].n == found.thinking.timed == of - left
    assert found.succeeded == 80
    (series,) = series_of([found])
    headings, (row,) = runs_table(series, Where.TERMINAL)
    assert row[headings.index("unanswered")] == str(left)
    (lines,) = (section.lines for section in sections(series) if section.title == "Thinking")
    assert f"of the {of - left} answered" in lines[0]
    assert [note.code for note in found.verdict.notes].count("unanswered") == 1


@pytest.mark.parametrize(("missing", "met"), [(0, "met"), (100, "not shown"), (200, "missed")])
def test_unanswered_replies_miss_an_objective_on_the_answer(outcome, missing, met):
    """Thinking for longer must not look better."""
    records = [unanswered(i) if i % 300 < missing else thinker(i) for i in range(300)]
    one = outcome(records, q="p65")
    assert (one.word, one.unmeasured) == (met, None)
    assert (one.share.late > 0) == (missing > 0)


def test_a_run_in_which_none_was_answered_missed_it_and_that_was_measured(outcome):
    one = outcome([unanswered(i) for i in range(100)])
    assert (one.word, one.unmeasured, one.within) == ("missed", None, 0)


def test_where_the_answer_cant_be_told_it_is_not_measured(outcome):
    content = {"thoughts": "content", "ttfa_ms": None, "thinking_tokens": None}
    one = outcome([made_record(i, **content) for i in range(100)])
    assert one.word == "missed"
    assert one.unmeasured
    whole = outcome([whole_reply_record(i) for i in range(100)], stream=False)
    assert "stream: false" in whole.unmeasured


def test_a_failure_is_no_unanswered_reply(summary, outcome):
    records = [failed_record(i) if i % 5 == 0 else thinker(i) for i in range(100)]
    assert summary(records).thinking.unanswered == 0
    assert outcome(records).share.late > 0


def test_an_open_loop_counts_the_answer_from_the_schedule(tmp_path):
    own = {"request_rate": 10.0, "send_lag_ms": 50.0}
    records = [thinker(i, **own) for i in range(200)]
    info = made_info(records, scenario={"slo": {"ttfa_ms": {"p50": 640}}})
    facts = Facts(frame_of(tmp_path, records), info)
    (one,) = attainment(facts).outcomes
    assert (one.objective.metric, one.word) == ("ttfa_from_schedule_ms", "missed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"thoughts": "content", "ttfa_ms": None, "thinking_tokens": None}, "thoughts_in_content"),
        ({"thoughts": "hidden"}, "hidden_thoughts"),
        ({"thinking_tokens": None}, "thinking_tokens_unknown"),
        ({"ttfa_ms": None, "visible_events": 0}, "unanswered"),
    ],
)
def test_each_oddity_has_its_note_and_changes_no_verdict(summary, changes, code):
    codes = {"thoughts_in_content", "hidden_thoughts", "thinking_tokens_unknown", "unanswered"}
    found = summary([thinker(i, **(changes if i % 2 else {})) for i in range(60)])
    assert {note.code for note in found.verdict.notes} & codes == {code}
    sound = summary([thinker(i) for i in range(60)])
    assert not {finding.code for finding in sound.verdict.findings} & codes


@pytest.mark.parametrize(
    ("ends", "raised"),
    [(["length"], True), (["model_length"], True), (["stop"], False), (["length", "stop"], True)],
)
def test_more_tokens_are_advised_only_where_the_limit_ended_a_reply(summary, ends, raised):
    records = [unanswered(i, finish_reason=ends[i % len(ends)]) for i in range(60)]
    found = summary(records)
    (note,) = [note for note in found.verdict.notes if note.code == "unanswered"]
    assert ("max_new_tokens" in note.advice) is raised
    assert ("parser" in note.advice) is ("stop" in ends)
    early = sum(found.thinking.of * (end == "stop") for end in ends) / len(ends)
    assert ("themselves" in note.figures) is (early > 0)


def test_the_share_of_thinking_is_of_the_replies_whose_tokens_are_known(summary):
    records = [thinker(i, thinking_tokens=None if i % 2 else 12) for i in range(60)]
    found = summary(records).thinking
    assert found.token_share == pytest.approx(12 / 20)
    assert found.unknown == pytest.approx(found.replies / 2, abs=1)


def test_summary_csv_and_vllms_format_have_them(summary):
    found = summary([thinker(i) for i in range(60)])
    (row,) = csv.DictReader(io.StringIO(to_csv(SUMMARY_COLUMNS, [found]).decode()))
    assert float(row["ttfa_p50_ms"]) == 600
    assert float(row["thinking_p50_s"]) == 0.5
    assert float(row["thinking_token_share"]) == 0.6
    assert row["unanswered"] == "0"
    assert b"median_ttfa_ms" in to_vllm(found)
    assert b"ttfa" not in to_vllm(summary([made_record(i) for i in range(60)]))


def test_its_distribution_is_drawn_where_replies_think(tmp_path):
    for records, drawn in (
        ([thinker(i) for i in range(60)], True),
        ([made_record(i) for i in range(60)], False),
    ):
        facts = Facts(frame_of(tmp_path, records), made_info(records))
        assert ("ttfa_ms" in curves_of(facts)) == drawn
