"""Which numbers are one's own, held against lists that are walked through."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.dealt.held import Held, held, in_place, joined, only
from vllm_bench.plan.dealt.own import ALL, Own

END = 200


@st.composite
def owns(draw: st.DrawFn, least: int = 0) -> Own:
    period = draw(st.integers(1, 12))
    places = draw(st.sets(st.integers(0, period - 1), min_size=least))
    return Own(period, tuple(sorted(places)))


def walked(own: Own, end: int = END) -> list[int]:
    return [number for number in range(end) if number % own.period in own.places]


@given(owns(), st.integers(0, END))
def test_own_numbers_are_those_of_a_walk(own: Own, end: int) -> None:
    mine = walked(own, end)
    assert list(own.upto(end)) == mine
    assert own.below(end) == len(mine)
    assert [own.number(at) for at in range(len(mine))] == mine
    assert [own.below(number) for number in mine] == list(range(len(mine)))


@given(owns(), st.integers(0, END), st.slices(40))
def test_a_slice_of_own_numbers_has_those_of_the_list(own: Own, end: int, part: slice) -> None:
    assert list(own.upto(end)[part]) == walked(own, end)[part]


@given(owns(), st.integers(1, 9), st.data())
def test_processes_divide_a_machines_numbers(own: Own, step: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, step - 1))
    assert list(own.every(first, step).upto(END)) == walked(own)[first::step]


@given(owns(), st.integers(1, 5), st.data())
def test_numbers_of_a_part_lie_among_those_of_the_run(
    own: Own, of: int, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, of - 1))
    expected = [number * of + place for number in walked(own, END // of)]
    assert list(own.among(of, place).upto(END // of * of)) == expected


def test_without_numbers_none_is_ones_own() -> None:
    nobody = Own(3, ())
    assert list(nobody.upto(9)) == list(nobody.every(1, 2).upto(9)) == []
    with pytest.raises(ZeroDivisionError):
        nobody.number(0)


def test_of_the_only_machine_every_number_is_its_own() -> None:
    assert list(ALL.upto(5)) == list(range(5))


@given(st.lists(st.integers(0, 99), max_size=30), owns())
def test_what_is_held_is_in_its_place_and_nothing_else_is_there(items: list[int], own: Own) -> None:
    places: Sequence[int] = own.upto(len(items))
    for kind in (tuple(items), array("q", items)):
        found = pickle.loads(pickle.dumps(only(kind, places)))
        assert len(found) == len(items)
        assert list(held(found)) == [items[place] for place in places]
        for place, item in enumerate(items):
            if place in places:
                assert found[place] == item
            else:
                with pytest.raises(LookupError):
                    found[place]
        with pytest.raises(IndexError):
            found[len(items)]


@given(st.lists(st.integers(0, 99), max_size=30), owns(), st.integers(0, 30), st.integers(0, 30))
def test_a_slice_of_what_is_held_has_what_is_there(
    items: list[int], own: Own, begin: int, end: int
) -> None:
    part = only(items, own.upto(len(items)))[begin:end]
    assert list(part) == [items[place] for place in own.upto(len(items)) if begin <= place < end]


@given(owns(), st.integers(0, 9), st.integers(0, 9))
def test_one_behind_the_other_keeps_each_in_its_place(own: Own, first: int, second: int) -> None:
    whole = list(range(100, 100 + first + second))
    places = list(own.upto(len(whole)))
    one = only(whole[:first], [place for place in places if place < first])
    other = only(whole[first:], [place - first for place in places if place >= first])
    both = joined(one, other)
    assert both == only(whole, tuple(places))
    assert joined(whole[:first], whole[first:]) == tuple(whole)


def test_what_is_made_of_a_whole_sequence_is_whole() -> None:
    assert in_place([1, 2], ["a", "b"]) == ["a", "b"]
    assert in_place(Held(5, (1, 3), (1, 2)), ["a", "b"])[3] == "b"
