"""Runs of a session are judged together: by their files, whichever of them are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.answers.together import with_answers_judged
from vllm_bench.charts.against_load import load_charts
from vllm_bench.charts.pictures import DrawnRun, judged_together
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.row import to_csv
from vllm_bench.records.run_files import files_of, written_files
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import (
    RunSummary,
    sorted_summaries,
    summarize,
)
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.document import to_json
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.tables.level_lines import answer_lines, exit_code
from vllm_bench.tables.markdown import to_markdown

from tests.answers.test_side import answer, written
from tests.support.made_runs import made_info, made_plan, made_record, write_run

N = 400
TIME = "20251124T120000Z"


def run(
    folder: Path, asked: str, streams: int, *, lost: int = 0, session: str = "s1", **changes: Any
) -> RunSummary:
    """A run of 400 questions, of which it answers `lost` wrong."""
    path = made(folder, asked, streams, session=session)
    rows = [
        answer(i, right=int(i >= lost), text_sha256="a" if i >= lost else "b") for i in range(N)
    ]
    written(folder, changes.get("rows", rows), path.stem)
    return summarize(load_run(path))


def made(
    folder: Path, asked: str, streams: int, *, session: str, time: str = TIME, **changes: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    label = None if asked == "load" else f"quality-{asked}"
    run_id = f"q-{label or 'load'}-cc{streams}-{session}-{time}"
    own = {"run_id": run_id, "scenario": "q", "concurrency": streams}
    records = [made_record(i, **own) for i in range(N)]
    quality = {"set": "arithmetic", "questions": N, "again": False}
    plan = {"quality": {"pass": asked, "set": "arithmetic", "questions": N}}
    settings = {"num_requests": N, "quality": quality, "label": label}
    whole = {"scenario": settings, "plan": {**made_plan(records), **plan}, "session": session}
    info = made_info(records, **whole, **changes)
    return write_run(folder, records, info)


def codes(summary: RunSummary) -> list[str]:
    return [f.code for f in summary.verdict.findings if f.code.startswith("answers_")]


def test_a_level_that_loses_answers_is_invalid_and_ends_with_4(tmp_path: Path) -> None:
    alone, low = run(tmp_path, "alone", 1), run(tmp_path, "load", 4)
    high = run(tmp_path, "load", 16, lost=20)
    assert codes(high) == []  # nothing is judged before the runs are together
    found = with_answers_judged([alone, low, high])
    assert list(map(codes, found)) == [[], [], ["answers_lost"]]
    assert found[2].verdict.level == "INVALID"
    assert found[0] is alone
    assert exit_code(found[:2]) != 4
    assert exit_code(found) == 4
    (series,) = [s for s in series_of(sorted_summaries(found)) if len(s.levels) > 1]
    assert "20 lost the right answer and 0 found it" in answer_lines(series)[1]


def test_to_judge_again_changes_nothing(tmp_path: Path) -> None:
    once = with_answers_judged([run(tmp_path, "alone", 1), run(tmp_path, "load", 16, lost=20)])
    assert all(a is b for a, b in zip(once, with_answers_judged(once), strict=True))
    assert {id(one) for one in sorted_summaries(once)} == {id(one) for one in once}


def test_the_pass_alone_is_found_in_its_files_if_only_a_level_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path, "alone", 1, lost=7, session="s0")  # an earlier session's
    run(tmp_path, "alone", 1)
    (found,) = with_answers_judged([run(tmp_path, "load", 16, lost=20)])
    assert codes(found) == ["answers_lost"]
    assert found.answers is not None
    assert found.answers.against is not None
    assert found.answers.against.lost == 20


@pytest.mark.parametrize("shown", [[1], [1, 2], [0, 1], [0, 1, 2, 3]])
def test_a_level_is_judged_alike_whichever_others_are_shown(
    tmp_path: Path, shown: list[int]
) -> None:
    runs = [run(tmp_path, "alone", 1), run(tmp_path, "load", 16, lost=5)]
    runs += [run(tmp_path, "load", streams) for streams in (4, 8)]
    run(tmp_path, "load", 32, session="s2")  # of another session
    found = with_answers_judged([runs[place] for place in shown])
    level = found[shown.index(1)]
    assert codes(level) == ["answers_changed"]  # of one level alone it would be answers_lost
    assert level.answers is not None
    assert level.answers.against is not None
    assert level.answers.against.p_holm == pytest.approx(3 / 2**5)


@pytest.mark.parametrize("shown", [True, False])
def test_of_two_passes_alone_the_whole_one_counts(tmp_path: Path, shown: bool) -> None:
    broken = made(tmp_path, "alone", 1, session="s1", time="20251124T110000Z", status="interrupted")
    written(tmp_path, [answer(i) for i in range(9)], broken.stem)
    runs = [run(tmp_path, "alone", 1), run(tmp_path, "load", 16, lost=20)]
    every = [summarize(load_run(broken)), *runs] if shown else runs[1:]
    level = with_answers_judged(every)[-1]
    assert codes(level) == ["answers_lost"]
    assert level.answers is not None
    assert level.answers.against is not None
    assert level.answers.against.pairs == N


def test_a_level_with_hardly_any_pairs_is_not_taken_for_a_sound_one(tmp_path: Path) -> None:
    alone = run(tmp_path, "alone", 1)
    level = run(tmp_path, "load", 16, rows=[answer(i) for i in range(4)])
    found = with_answers_judged([alone, level])
    assert codes(found[1]) == ["answers_unjudged"]


def test_without_a_pass_alone_it_is_said(tmp_path: Path) -> None:
    run(tmp_path, "alone", 1, session="s0")
    (found,) = with_answers_judged([run(tmp_path, "load", 16, lost=20)])
    assert codes(found) == ["answers_unjudged"]


def test_two_sessions_are_judged_apart(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, asked, streams, lost=lost, session=session)
        for session, lost in (("s1", 0), ("s2", 5))
        for asked, streams in (("alone", 1), ("load", 16))
    ]
    one = [runs[0], runs[1], runs[2], run(tmp_path / "x", "load", 16, lost=10, session="s2")]
    found = with_answers_judged(runs)
    assert codes(found[1]) == []
    assert found[3].answers is not None
    assert found[3].answers.against is not None
    assert found[3].answers.against.lost == 0  # alone they were lost as well
    assert codes(with_answers_judged(one)[3]) == ["answers_unjudged"]  # of another folder


def test_a_second_pass_alone_is_compared_and_not_judged(tmp_path: Path) -> None:
    alone, again = run(tmp_path, "alone", 1), run(tmp_path, "again", 1, lost=20)
    found = with_answers_judged([alone, again])
    assert codes(found[1]) == []
    assert found[1].answers is not None
    assert found[1].answers.against is not None
    assert (found[1].answers.against.lost, found[1].answers.against.p_holm) == (20, None)


def test_damaged_answers_are_told_and_no_verdict_is_given(tmp_path: Path) -> None:
    alone = run(tmp_path, "alone", 1)
    path = made(tmp_path, "load", 16, session="s1")
    (tmp_path / "answers" / f"{path.stem}.csv").write_text("what is this\n", encoding="utf-8")
    loaded = load_run(path)
    found = with_answers_judged([alone, summarize(loaded)])
    assert "not the answers of a run" in loaded.problems[0]
    assert codes(found[1]) == ["answers_unjudged"]


@pytest.mark.parametrize("lost", [0, 20])
def test_every_output_has_the_answers(tmp_path: Path, lost: int) -> None:
    runs = [
        run(tmp_path, "alone", 1),
        run(tmp_path, "load", 4),
        run(tmp_path, "load", 16, lost=lost),
    ]
    found = sorted_summaries(runs)
    match = f"{(N - lost) / N:.4f}"
    table = to_csv(SUMMARY_COLUMNS, found).decode()
    levels = to_csv(LEVEL_COLUMNS, level_rows(series_of(found))).decode()
    assert match in table
    assert match in levels
    assert f'"answers_lost": {lost}' in to_json(found).decode()
    assert f"{lost} lost the right answer" in to_markdown(found)


def test_the_chart_has_a_point_for_each_level_and_the_pass_alone(tmp_path: Path) -> None:
    runs = [run(tmp_path, "alone", 1), run(tmp_path, "load", 4), run(tmp_path, "load", 16, lost=4)]
    drawn = judged_together([DrawnRun(one, {}, None) for one in runs])
    (series,) = [
        s for s in series_of(sorted_summaries([d.summary for d in drawn])) if len(s.levels) > 1
    ]
    (chart,) = [c for c in load_charts(series) if c.title.startswith("Exact match")]
    (line,) = [line for line in chart.lines if line.low is not None]
    assert line.y.tolist() == [100.0, 99.0]
    (rule,) = chart.panels[0].rules
    assert rule.at == 100.0
    assert {id(d.summary) for d in drawn} >= {id(r) for level in series.levels for r in level.runs}


def test_answers_belong_to_their_run(tmp_path: Path) -> None:
    summary = run(tmp_path, "load", 4)
    (tmp_path / "answers" / f"{summary.name}.jsonl").write_text("{}\n", encoding="utf-8")
    for found in (files_of(tmp_path, summary.name), written_files(tmp_path, summary.name)):
        assert {path.suffix for path in found if path.parent.name == "answers"} == {
            ".csv",
            ".jsonl",
        }
