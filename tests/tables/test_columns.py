"""Columns: where a value comes from, how it is written, and which tables show it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm_bench.records.row import Column, follow, to_csv
from vllm_bench.tables.columns import BY_NAME, REPEATED, SUMMARY_COLUMNS
from vllm_bench.tables.group import GROUPS, Where
from vllm_bench.tables.level_columns import LEVEL_COLUMNS

RUN = SimpleNamespace(
    window=SimpleNamespace(length_s=2.5),
    steady=None,
    percentiles={99.0: 7.0},
    scenario={"model": "m", "dataset": ["a"]},
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("window.length_s", 2.5),
        ("steady.requests_per_s", None),
        ("percentiles.99", 7.0),
        ("percentiles.50", None),
        ("scenario.model", "m"),
        ("scenario.dataset", "['a']"),  # a file may hold anything: it is shown as text
    ],
)
def test_a_path_leads_through_attributes_and_keys_or_breaks_off(path: str, value: object) -> None:
    assert follow(RUN, path) == value


def test_a_path_that_no_type_has_is_a_mistake() -> None:
    with pytest.raises(AttributeError):
        follow(RUN, "window.lenght_s")


def test_a_value_that_does_not_exist_is_an_empty_cell() -> None:
    columns: list[Column[Any]] = [
        Column("a", "a path", "window.length_s"),
        Column("b", "a function", lambda run: ""),
        Column("c", "nothing", "steady.requests_per_s"),
    ]
    assert columns[1].value(RUN) is None
    assert to_csv(columns, [RUN]) == b"a,b,c\n2.5000,,\n"
    assert to_csv(columns, [RUN], digits=None) == b"a,b,c\n2.5,,\n"


@pytest.mark.parametrize("columns", [SUMMARY_COLUMNS, LEVEL_COLUMNS, REPEATED])
def test_columns_are_named_once_and_explained(columns: tuple[Column[Any], ...]) -> None:
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.doc for column in columns)


def test_every_group_is_of_columns_that_exist() -> None:
    repeated = {column.name for column in REPEATED}
    for group in GROUPS:
        known = repeated if Where.LEVELS in group.where else BY_NAME
        both = Where.LEVELS in group.where and group.where != Where.LEVELS
        for name in group.columns.values():
            assert name in known
            assert name in BY_NAME or not both
    shown = {name for g in GROUPS if Where.LEVELS in g.where for name in g.columns.values()}
    assert shown == repeated
