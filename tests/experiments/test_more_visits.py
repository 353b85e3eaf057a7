"""When more visits are due: for pairs that were thrown away, and for what can't be told yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm_bench.compare.comparison import Comparison, Effect, LevelRows, Pair, Row, Unit
from vllm_bench.compare.measures import MEASURES
from vllm_bench.experiments.ab import MOST_ASKED, continued, more_visits, to_replace, why_anew
from vllm_bench.experiments.state import State, write_state
from vllm_bench.launch.left_behind import Process
from vllm_bench.scenario.load import Load

from tests.compare.made import base
from tests.experiments.test_state import state

GONE = Process(1 << 22, 1)  # no such process


def found(*levels: tuple[int, int, list[int | None]]) -> Comparison:
    """A comparison: of each level its pairs, those thrown away, and the pairs that figures lack."""
    unit = Unit((base(),))
    rows_of = [
        tuple(
            Row(
                *(measure, 1.0, 1.0, Effect(1.0, None, None)),
                *("cannot tell" if more else "equivalent", None, 0.5, more),
            )
            for measure, more in zip(MEASURES, lacking, strict=False)
        )
        for _, _, lacking in levels
    ]
    made = [
        LevelRows("one", Load("streams", place), (Pair(unit, unit),) * pairs, ("why",) * gone, rows)
        for place, ((pairs, gone, _), rows) in enumerate(zip(levels, rows_of, strict=True), 1)
    ]
    return Comparison("a", "b", (), tuple(made), (), ())


@pytest.mark.parametrize(
    ("visits", "levels", "pairs"),
    [
        (8, [(4, 0, [])], 0),
        (8, [(3, 1, [])], 1),
        (8, [(4, 0, []), (1, 3, [])], 3),  # as the worst level needs
        (16, [(5, 3, [])], 0),  # enough are left
        (8, [(3, 0, [])], 0),  # a visit failed: nothing was thrown away
        (4, [(1, 1, [])], 0),  # no word was asked for
        (8, [(0, 4, [])], 0),  # whatever spoils them all would spoil others
        (8, [], 0),
    ],
)
def test_pairs_are_replaced_where_too_few_are_left_for_a_word(
    visits: int, levels: list[tuple[int, int, list[int | None]]], pairs: int
) -> None:
    assert to_replace(state(visits=visits), found(*levels)) == pairs


@pytest.mark.parametrize(
    ("visits", "levels", "wanted"),
    [
        (8, [(4, 0, [None, None])], None),  # all is told
        (8, [(4, 0, [None, 2, 6])], 20),
        (8, [(4, 0, [2]), (4, 0, [4])], 16),
        (8, [(4, 0, [6, 500])], 20),  # 500 are out of reach
        (8, [(4, 0, [500])], None),
        (2, [(1, 0, [])], 8),
        (8, [(3, 1, [])], 10),
        (8, [], 16),
    ],
)
def test_as_many_visits_are_proposed_as_tell_what_is_within_reach(
    visits: int, levels: list[tuple[int, int, list[int | None]]], wanted: int | None
) -> None:
    number, why = more_visits(state(visits=visits), found(*levels))
    assert number == wanted
    assert number is None or visits < number <= MOST_ASKED
    assert why or all(not lacking or not any(lacking) for _, _, lacking in levels)


def kept(folder: Path, **changes: object) -> State:
    made = state(**{"by": GONE, **changes})
    write_state(folder, made)
    return made


def test_the_newest_that_asked_the_same_is_gone_on_with(tmp_path: Path) -> None:
    for day in (27, 28):
        kept(tmp_path, id=f"202611{day}T150000Z-1")
    kept(tmp_path, id="20261129T150000Z-1", scenario_sha256="another")
    new = state(id="20261130T150000Z-1", by=Process.of(1))
    again = continued(tmp_path, new, None)
    assert again is not None
    assert (again.id, again.visits, again.by) == ("20261128T150000Z-1", 8, new.by)
    more = continued(tmp_path, new, 16)
    assert more is not None
    assert more.visits == 16


def test_why_nothing_is_gone_on_with_is_told(tmp_path: Path) -> None:
    new = state(by=Process.of(1))
    assert str(tmp_path) in why_anew(tmp_path, new)
    kept(tmp_path, scenario_sha256="another", b=new.a)
    assert continued(tmp_path, new, None) is None
    told = why_anew(tmp_path, new)
    assert "scenario" in told
    assert "B" in told
    assert "A" not in told.partition("differs in")[2]
