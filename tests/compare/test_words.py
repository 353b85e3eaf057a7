"""A comparison in words: the answer's first sentence, and the forms of figures."""

from __future__ import annotations

import dataclasses

import pytest
from vllm_bench.compare.compare import compare
from vllm_bench.compare.comparison import Comparison, Effect, Word
from vllm_bench.compare.measures import at_load
from vllm_bench.compare.pairs import Side
from vllm_bench.compare.words import answer, change, level_lines, level_title, measure_name
from vllm_bench.scenario.load import Load
from vllm_bench.stats.batches import Interval

from tests.compare.written import read, write_side


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """B is 10 % slower at 4 streams, and as fast at 8."""
    folder = tmp_path_factory.mktemp("runs")
    a = write_side(folder, "a", streams=(4, 8))
    b = [*write_side(folder, "b", 1.1, at_s=100), *write_side(folder, "b", streams=(8,), at_s=100)]
    return compare(Side("a", read(a)), Side("b", read(b)))


def with_words(found: Comparison, *words: Word | None) -> Comparison:
    """Return the comparison with one word for all measures of each level."""
    levels = [
        dataclasses.replace(lv, rows=tuple(dataclasses.replace(r, word=word) for r in lv.rows))
        for lv, word in zip(found.levels, words, strict=True)
    ]
    return dataclasses.replace(found, levels=tuple(levels))


def test_the_answer_names_side_measure_change_and_level(found: Comparison) -> None:
    said = answer(found)
    for part in ("B (b)", "A (a)", "slower", "output tokens/s -9", "4 streams", "10 equivalent"):
        assert part in said
    assert (found.exit_code, len(found.slower)) == (3, 9)


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (("faster", "faster"), "B (b) is faster than A (a): "),
        (("slower", "faster"), "It depends: B (b) against A (a) is faster in "),
        (("equivalent", "equivalent"), "A (a) and B (b) are equivalent"),
        (("equivalent", None), "A (a) and B (b) are equivalent"),
        (("equivalent", "cannot tell"), "No difference found"),
        (("cannot tell", "cannot tell"), "No difference found"),
        ((None, None), "No answer"),
        (("not slower", "not slower"), "B (b) is not slower than A (a)"),
    ],
)
def test_the_first_words_are_the_answer(
    found: Comparison, words: tuple[Word | None, ...], begins: str
) -> None:
    assert answer(with_words(found, *words)).startswith(begins)


def test_a_side_that_is_named_oddly_is_shown_short_and_escaped(found: Comparison) -> None:
    said = answer(dataclasses.replace(found, b="\x1b[2J" + "x" * 500))
    assert "\x1b" not in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("ratio", "low", "high", "shown"),
    [
        (1.059, 1.051, 1.067, "+5.9 % (+5.1 to +6.7)"),
        (0.9995, 0.999, 1.0001, "-0.05 % (-0.10 to +0.01)"),
        (1.0, 1.0, 1.0, "0.00 % (0.00 to 0.00)"),
        (33.0, 30.0, 36.0, "+3200 % (+2900 to +3500)"),
        (1e300, 1.0, 1e301, ">+99999 % (0 to >+99999)"),
    ],
)
def test_a_change_has_as_many_digits_as_matter(
    ratio: float, low: float, high: float, shown: str
) -> None:
    assert change(Effect(ratio, Interval(low, high), 0.1)) == shown
    assert change(Effect(ratio, None, None)) == shown.partition(" (")[0]


def test_reasons_are_escaped() -> None:
    said = answer(compare(Side("\x1b[2J", ()), Side("b", ())))
    assert "\x1b" not in said
    found = compare(Side("a", ()), Side("b", ()))
    assert "\x1b" not in answer(dataclasses.replace(found, refusals=("\x1b[2J",)))


def test_in_an_open_loop_the_schedule_is_told_once(found: Comparison) -> None:
    level = found.levels[0]
    rows = tuple(
        dataclasses.replace(row, measure=at_load(row.measure, Load("requests/s", 2.0)))
        for row in level.rows
    )
    opened = dataclasses.replace(level, rows=rows)
    assert [measure_name(row) for row in rows] == [measure_name(row) for row in level.rows]
    (line,) = [line for line in level_lines(opened, smallest=False) if "was due" in line]
    assert line not in list(level_lines(level, smallest=False))


def test_lines_under_a_level_say_what_is_missing_and_thrown_away(found: Comparison) -> None:
    level = found.levels[0]
    few = dataclasses.replace(level, refusal="2 pairs", dropped=("x and y: INVALID\x1b",))
    lines = list(level_lines(few, smallest=True))
    assert lines[0] == "no words: 2 pairs"
    assert any("output tokens/s" in line for line in lines)
    assert lines[-1] == r"- x and y: INVALID\x1b"
    assert level_title(few) == "made · 4 streams · 4 pairs"
    assert level_title(dataclasses.replace(few, nights=12, pairs=())).endswith("12 nights")
