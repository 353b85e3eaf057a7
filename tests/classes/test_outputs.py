"""Every table, picture and comparison has a run's classes beside all together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from vllm_bench.charts.by_class.levels import TOGETHER, classes_against_load
from vllm_bench.charts.distributions import by_class
from vllm_bench.charts.pictures import DrawnRun, drawn_run, fairness_pictures, series_pictures
from vllm_bench.compare.compare import compare
from vllm_bench.compare.pairs import Side
from vllm_bench.figures.facts import Facts
from vllm_bench.page.page import to_html
from vllm_bench.page.tables import levels_table, runs_table
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import CLASS_NAME, RecordsError
from vllm_bench.records.run_files import orphans
from vllm_bench.scenario.nested.groups import ClassName
from vllm_bench.summary.again import again
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary, facts_of, summarize, with_classes
from vllm_bench.tables.document import schema, to_json
from vllm_bench.tables.group import Where
from vllm_bench.tables.level_lines import sections
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.tables.text_tables import interval_rows, turn_rows
from vllm_bench.tables.text_tables import runs_table as text_table
from vllm_bench.tables.vllm_format import over_all, to_vllm

from tests.classes.made import MIX, Asked, alone_run, info_of, made_run, mixed_order, rows_of
from tests.support.made_runs import summed, write_run

FAST = {"chat": [100.0, 120.0, 90.0], "legal": [200.0, 210.0, 190.0]}
ASKED: Asked = {
    "chat": {"share": 0.7, "slo": {"ttft_ms": {"p50": 300}}},
    "legal": {"share": 0.3, "slo": {"ttft_ms": {"p50": 100}}},
}
EVERY = ["10", "10, chat", "10, legal"]


@pytest.fixture
def run(tmp_path: Path) -> RunSummary:
    return made_run(tmp_path, rows_of(mixed_order(300), FAST), ASKED)


def drawn(folder: Path, name: str = "mix") -> tuple[DrawnRun, Facts]:
    found = load_run(folder / f"{name}.csv")
    facts = facts_of(found)
    return drawn_run(summarize(found, facts), facts), facts


def test_tables_have_a_row_for_each(run: RunSummary) -> None:
    (series,) = series_of([run])
    _, rows = text_table(series, Where.TERMINAL)
    assert [row[0] for row in rows] == EVERY
    assert [row[2] for row in rows] == [
        "300/300",
        *(f"{p.requests}/{p.requests}" for p in run.classes.values()),
    ]
    assert list(dict.fromkeys(row[0] for row in interval_rows(series))) == EVERY
    assert [row[0].text for row in runs_table(with_classes([run])).rows] == [
        "10 requests/s",
        "10 requests/s, chat",
        "10 requests/s, legal",
    ]
    assert len(levels_table(series).rows) == 3


def test_objectives_are_told_by_class(run: RunSummary) -> None:
    (series,) = series_of([run])
    (lines,) = (one.lines for one in sections(series) if one.title == "Objectives")
    heads = [line.partition(":")[0] for line in lines if "≤" not in line]
    assert heads == ["10 requests/s", "10 requests/s, chat", "10 requests/s, legal"]
    assert lines[0].startswith("10 requests/s: MISSED (legal)")


def test_the_share_of_answers_in_their_form_is_told_by_class(tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(r, answer_valid=int(i % 4 > 0)) if r.class_ == "legal" else r
        for i, r in enumerate(rows_of(mixed_order(200), {"chat": 100.0, "legal": 200.0}))
    ]
    shares = [r.answer_valid for r in rows if r.answer_valid is not None]
    (tmp_path / "classes").mkdir()
    run = made_run(tmp_path / "classes", rows)
    plain = [dataclasses.replace(row, class_=None) for row in rows]
    (tmp_path / "plain").mkdir()
    whole = summed(tmp_path / "plain", plain)
    said = f"{100 * sum(shares) / len(shares):.3g} %"
    for one, names in ((run, [", legal: "]), (whole, [": "])):
        (series,) = series_of([one])
        answers = {section.title: section.lines for section in sections(series)}["Answers"]
        assert len(answers) == 1
        assert said in answers[0]
        assert all(name in answers[0] for name in names)


def test_turns_are_those_of_the_class_that_has_them(tmp_path: Path) -> None:
    rows = rows_of(["chat", "agents"] * 30, {"chat": 100.0, "agents": 50.0})
    talks = [
        dataclasses.replace(r, turn=1 + i % 3) if r.class_ == "agents" else r
        for i, r in enumerate(rows)
    ]
    found = made_run(tmp_path, talks, {"chat": {"share": 0.5}, "agents": {"share": 0.5}})
    (series,) = series_of([found])
    assert {row[0] for row in turn_rows(series)} == {"10, agents"}


def test_documents_have_the_classes_and_fairness(run: RunSummary, tmp_path: Path) -> None:
    found = json.loads(to_json([run]))
    (one,) = found["runs"]
    assert list(one["classes"]) == ["chat", "legal"]
    assert one["attainment"]["share"] is None
    assert found["fairness"][0]["no_jain"]
    assert "OfClass" in schema()["$defs"]
    assert "## Fairness" in to_markdown([run])
    theirs = json.loads(to_vllm(over_all(load_run(tmp_path / "mix.csv"))))
    completed = [theirs["classes"][name]["completed"] for name in MIX]
    assert sum(completed) == theirs["completed"] == 300


@pytest.mark.parametrize("odd", ["<b>|", "\x1b[31m", "a" * 33, "../x", "1st", "=cmd", "a b"])
def test_what_no_scenario_calls_a_class_is_no_row_of_one(tmp_path: Path, odd: str) -> None:
    rows = rows_of(["chat", "legal"] * 20, FAST)
    edited = [*rows[:-1], dataclasses.replace(rows[-1], class_=odd)]
    with pytest.raises(RecordsError):
        load_run(write_run(tmp_path, edited, name="edited"))
    info = info_of(rows, {**MIX, odd: {"share": 0.1}})
    found = summed(tmp_path, rows, info)
    assert list(found.classes) == ["chat", "legal"]


def test_names_are_those_that_scenarios_allow() -> None:
    (asked,) = get_args(ClassName)[1:]
    assert f"^{CLASS_NAME.pattern}$" == asked.metadata[0].pattern


def test_the_page_shows_classes(run: RunSummary, tmp_path: Path) -> None:
    page = to_html([drawn(tmp_path)[0]])
    assert "Classes of users" in page
    assert "10 requests/s, legal" in page


def test_pictures_have_a_line_for_each_class(run: RunSummary, tmp_path: Path) -> None:
    one, facts = drawn(tmp_path)
    chart = by_class(one.summary, one.classes, "ttft_ms")
    assert chart is not None
    assert [line.name.partition(",")[0] for line in chart.lines] == ["chat", "legal"]
    assert one.timeline is not None
    dots = [
        line.legend for panel in one.timeline.panels for line in panel.lines if line.role == "dots"
    ]
    counted = facts.counted.sum()
    told = [int(str(words).rpartition(": ")[2]) for words in dots if "outside" not in str(words)]
    assert sum(told) == counted
    names = [p.name for p in series_pictures("mix", *series_of([one.summary]), [one])]
    assert "mix_ttft_classes" in names
    assert [p.chart for p in fairness_pictures([one])] == [None]


def test_classes_lie_at_the_run_s_load(tmp_path: Path) -> None:
    runs = []
    for place, ttft in ((1, 100.0), (2, 200.0)):
        rows = rows_of(mixed_order(300), {"chat": ttft, "legal": 2 * ttft})
        found = made_run(tmp_path, rows, name=f"mix{place}")
        load = dataclasses.replace(found.load, value=10.0 * place)
        parts = {n: dataclasses.replace(p, load=load) for n, p in found.classes.items()}
        runs.append(dataclasses.replace(found, load=load, classes=parts))
    (series,) = series_of(runs)
    chart = classes_against_load(series)
    assert chart is not None
    lines = {line.name: line for line in chart.panels[0].lines if line.role == "marked"}
    assert list(lines) == [TOGETHER, "chat", "legal"]
    for name, factor in (("chat", 1.0), ("legal", 2.0)):
        assert lines[name].x.tolist() == [10.0, 20.0]
        np.testing.assert_allclose(lines[name].y, [factor * 100.1, factor * 200.1], rtol=0.01)


def test_a_comparison_has_a_table_for_each_class(tmp_path: Path) -> None:
    sides = []
    for side, slow in (("a", 1.0), ("b", 1.5)):
        folder = tmp_path / side
        folder.mkdir()
        runs = []
        for n in range(1, 6):
            wobble = 1 + 0.002 * n
            ttft = {"chat": 100.0 * wobble, "legal": 200.0 * wobble * slow}
            rows = rows_of(mixed_order(300), ttft)
            runs.append(made_run(folder, rows, name=f"mix{n}", repeat=n))
        sides.append(Side(side, tuple(runs)))
    found = compare(*sides)
    words = {
        level.scenario: {row.measure.name: row.word for row in level.rows}["ttft_p50_ms"]
        for level in found.levels
    }
    assert words["mix, legal"] == "slower"
    assert words["mix, chat"] == "equivalent"
    assert len(words) == 3
    assert found.exit_code == 3


def test_to_run_one_class_again_takes_the_whole_scenario(tmp_path: Path) -> None:
    alone = alone_run(tmp_path, rows_of(mixed_order(300), FAST), "chat", ASKED)
    (series,) = series_of([alone])
    found = again(series, "mix")
    assert found is not None
    assert "legal" in found.text
    assert any("--alone" in command for command in found.commands)


def test_pictures_of_classes_belong_to_their_run(run: RunSummary, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    plots.mkdir()
    name = "gone-rate10-prefany-max20-20251124T120000Z"
    (plots / f"{name}_ttft_classes.png").write_bytes(b"")
    assert [path.name for path in orphans(tmp_path)[name]] == [f"{name}_ttft_classes.png"]
