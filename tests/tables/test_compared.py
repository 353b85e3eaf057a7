"""A comparison as people and programs read it: its width, its Markdown, its JSON and schema."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from vllm_bench.compare.compare import compare
from vllm_bench.compare.comparison import Comparison, Difference
from vllm_bench.compare.history import against_history
from vllm_bench.compare.pairs import Side, Told
from vllm_bench.scenario.load import Load
from vllm_bench.tables.compared import to_markdown
from vllm_bench.tables.compared_document import compared_document, schema, to_json
from vllm_bench.tables.terminal import print_comparison

from tests.compare.written import read, write_side

DAY_S = 86_400.0
ODD = "\x1b[2J|<b>@me`" + "x" * 200


def side(folder: Path, label: str, *more: Any, **changes: Any) -> Side:
    return Side(label, read(write_side(folder, label, *more, **changes)))


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """B is 10 % slower at 4 streams, and as fast at 8; with goodput, and odd texts."""
    folder = tmp_path_factory.mktemp("runs")
    slo = {"scenario": {"slo": {"ttft_ms": {"p95": 500.0}}}}
    a = write_side(folder, "a", streams=(4, 8), **slo)
    b = [
        *write_side(folder, "b", 1.1, at_s=100, **slo),
        *write_side(folder, "b", streams=(8,), at_s=100, **slo),
    ]
    found = compare(Side("a", read(a)), Side("b", read(b)))
    return dataclasses.replace(found, differences=(Difference(ODD, ODD, ODD),), b=ODD)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A candidate that is 20 % slower than ten nights."""
    folder = tmp_path_factory.mktemp("nights")
    stored = [
        path
        for night in range(10)
        for path in write_side(folder, "n", repeats=1, at_s=night * DAY_S)
    ]
    candidate = side(folder, "c", 1.2, repeats=1, at_s=20 * DAY_S)
    return against_history(Side("n", read(stored)), candidate)


@pytest.fixture(scope="module")
def unpaired() -> Comparison:
    """Figures that another tool told, at one load and at another."""
    a, b = (
        Side(name, (), (Told(name, Load("streams", 4), {"output_tokens_per_s": rate}),))
        for name, rate in (("a", 100.0), ("b", 0.0))
    )
    return compare(a, b)


@pytest.fixture(scope="module")
def nothing() -> Comparison:
    return compare(Side("a", ()), Side("b", ()))


@pytest.fixture(params=["paired", "nights", "unpaired", "nothing"])
def found(request: pytest.FixtureRequest) -> Comparison:
    comparison: Comparison = request.getfixturevalue(request.param)
    return comparison


def shown(found: Comparison, width: int | None) -> list[str]:
    """Return the lines on a terminal of this width, or on a pipe."""
    file = io.StringIO()
    terminal = width is not None
    console = Console(file=file, force_terminal=terminal, width=width or 10_000, no_color=True)
    print_comparison(found, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_is_never_too_narrow(found: Comparison, width: int) -> None:
    assert max(map(len, shown(found, width))) <= width


def test_at_80_columns_a_measure_is_a_line(paired: Comparison) -> None:
    lines = shown(paired, 80)
    (row,) = [line for line in lines if line.startswith("TTFT p95 ms") and "slower" in line]
    figure = r"[\d.]+ ±[\d.]+% +"
    change = r"\+[\d.]+ % \(\+[\d.]+ to \+[\d.]+\) +"
    assert re.fullmatch(rf"TTFT p95 ms +{figure}{figure}{change}slower", row)
    rows = [line for line in lines if re.search(r"(faster|slower|equivalent)$", line)]
    assert len(rows) == sum(row.word is not None for lv in paired.levels for row in lv.rows)


def test_at_40_columns_every_word_and_change_is_still_there(paired: Comparison) -> None:
    narrow = "\n".join(shown(paired, 40))
    for level in paired.levels:
        for row in level.rows:
            assert not row.word or f"{row.word}" in narrow
    assert narrow.count("(+") + narrow.count("(-") >= 10


def test_on_a_pipe_nothing_is_folded(paired: Comparison) -> None:
    lines = shown(paired, None)
    assert lines[0].startswith("B (")
    (headings, _) = [line for line in lines if "could show" in line]
    assert headings.split()[:2] == ["A", "B"]


def test_no_control_character_gets_through(found: Comparison) -> None:
    for text in ("\n".join(shown(found, 80)), to_markdown(found)):
        assert all(c.isprintable() or c == "\n" for c in text)


def test_markdown_is_escaped_and_its_tables_are_whole(found: Comparison) -> None:
    text = to_markdown(found)
    assert "<b>" not in text
    assert "@me" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_json_keeps_to_its_schema(found: Comparison) -> None:
    document = json.loads(to_json(found))
    jsonschema.validate(document, schema())
    assert document == json.loads(compared_document(found).model_dump_json())
    assert document["exit_code"] == found.exit_code


def test_the_schema_allows_no_other_key_and_requires_each(paired: Comparison) -> None:
    document = json.loads(to_json(paired))
    jsonschema.Draft202012Validator.check_schema(schema())
    row = document["levels"][0]["rows"][0]
    for changed in ({**row, "x": 1}, {k: v for k, v in row.items() if k != "word"}):
        document["levels"][0]["rows"][0] = changed
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, schema())


def test_json_has_each_pair_and_its_figures(paired: Comparison) -> None:
    level = json.loads(to_json(paired))["levels"][0]
    assert [len(level["pairs"]), len(level["rows"][0]["a_values"])] == [4, 4]
    assert level["pairs"][0]["a"] == ["made-a-cc4-r1-0"]
    row = level["rows"][0]
    assert row["effect"]["interval"]["low"] < row["effect"]["ratio"] < 1


def test_nights_have_a_limit_and_what_they_could_show(nights: Comparison) -> None:
    assert nights.exit_code == 3
    lines = shown(nights, 80)
    (title,) = [line for line in lines if "10 nights" in line]
    assert title.startswith("made · 4 streams")
    assert {"limit"} <= set("\n".join(lines).split())
    (row,) = [line for line in lines if line.startswith("output tokens/s")]
    a, b, limit = map(float, row.split()[2:5])
    assert b < limit < a


def test_another_tools_figures_have_a_change_and_no_word(unpaired: Comparison) -> None:
    assert unpaired.exit_code == 4
    lines = shown(unpaired, 80)
    assert "4 streams · unpaired" in lines
    assert [line.split() for line in lines if line.startswith("output tokens/s ")] == [
        ["output", "tokens/s", "100", "0"]
    ]
