"""A gate: what two looks make of it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.compare.comparison import WORDS, Comparison, Effect, LevelRows, Row, Word
from vllm_bench.compare.measures import MEASURES
from vllm_bench.experiments.gate import GREEN, RED, UNJUDGED, Gate
from vllm_bench.scenario.load import Load

HEADLINE, OTHER, QUIET = MEASURES[0], MEASURES[2], MEASURES[-1]
assert HEADLINE.headline
assert OTHER.headline
assert not QUIET.headline


def look(*said: tuple[float, str, Word | None]) -> Comparison:
    """A comparison in which a measure at a level of streams has a word."""
    measures = {measure.name: measure for measure in MEASURES}
    levels: dict[float, list[Row]] = {}
    for streams, name, word in said:
        effect = Effect(0.9, None, None)
        row = Row(measures[name], 10.0, 9.0, effect, word, None if word else "a reason")
        levels.setdefault(streams, []).append(row)
    found = [
        LevelRows("one", Load("streams", n), (), (), tuple(rows)) for n, rows in levels.items()
    ]
    return Comparison("a", "b", (), tuple(found), (), ())


A, B, C = HEADLINE.name, OTHER.name, QUIET.name


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ([(8, A, "slower")], [(8, A, "slower")], RED),
        ([(8, A, "slower")], [(8, A, "cannot tell")], GREEN),
        ([(8, A, "slower")], [(8, B, "slower"), (8, A, "equivalent")], GREEN),  # another measure
        ([(8, A, "slower")], [(32, A, "slower"), (8, A, "faster")], GREEN),  # another level
        ([(8, A, "slower")], [(8, A, None)], UNJUDGED),
        ([(8, A, "slower"), (32, A, None)], [(8, A, "faster"), (32, A, None)], UNJUDGED),
        ([(8, A, "slower")], [], UNJUDGED),
        ([(8, A, "slower"), (8, B, "slower")], [(8, A, None), (8, B, "slower")], RED),
        ([(8, A, "slower"), (8, B, "slower")], [(8, A, None), (8, B, "faster")], UNJUDGED),
    ],
)
def test_red_is_what_both_looks_call_slower(
    first: list[tuple[float, str, Word]], second: list[tuple[float, str, Word | None]], code: int
) -> None:
    gate = Gate(look(*first))
    assert gate.asks_again
    again = dataclasses.replace(gate, second=look(*second))
    assert not again.asks_again
    assert again.exit_code == code


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ([(8, A, "faster"), (32, B, "equivalent")], GREEN),
        ([(8, A, "cannot tell")], GREEN),
        ([(8, C, "slower")], GREEN),  # no headline
        ([(8, A, None)], UNJUDGED),
        ([], UNJUDGED),
        ([(8, A, "equivalent"), (32, A, None)], UNJUDGED),  # each pair at 32 was thrown away
        ([(8, A, "equivalent"), (8, B, None)], GREEN),
    ],
)
def test_where_nothing_is_slower_one_look_suffices(
    first: list[tuple[float, str, Word | None]], code: int
) -> None:
    gate = Gate(look(*first))
    assert (gate.asks_again, gate.exit_code) == (False, code)


SAID = st.dictionaries(
    st.tuples(st.sampled_from([1.0, 8.0]), st.sampled_from([A, B, C])),
    st.sampled_from([*WORDS, None]),
)


@given(SAID, SAID)
def test_what_is_red_was_slower_twice(
    first: dict[tuple[float, str], Word | None], second: dict[tuple[float, str], Word | None]
) -> None:
    one, other = (look(*((*at, word) for at, word in said.items())) for said in (first, second))
    gate = Gate(one, other if Gate(one).asks_again else None)
    slower = [
        {at for at, w in said.items() if w == "slower" and at[1] != C} for said in (first, second)
    ]
    both = slower[0] & slower[1]
    assert {(load.value, name) for _, load, name in gate.red} == both
    assert (gate.exit_code == RED) == bool(both)
    lines = list(gate.lines())
    assert len(lines) == 1 + len(slower[0])
