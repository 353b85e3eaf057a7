"""Sequences of which a machine has those items alone that it needs, each in its place. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Held(Sequence[T]):
    """As long as the whole sequence, with the items at some of its places, which ascend.

    Another place raises LookupError, so that nothing is sent in the stead of what isn't here; a
    slice has what is held of it.
    """

    size: int
    places: Sequence[int]
    items: Sequence[T]

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            begin, end, _ = at.indices(self.size)
            return self.items[bisect_left(self.places, begin) : bisect_left(self.places, end)]
        if at >= self.size:
            raise IndexError(at)
        found = bisect_left(self.places, at)
        if found == len(self.places) or self.places[found] != at:
            raise LookupError(f"place {at} is another machine's")
        return self.items[found]


def only(items: Sequence[T], places: Sequence[int]) -> Held[T]:
    """Return a sequence with the items at these places alone, in the same kind of storage."""
    found: Any
    if isinstance(places, range):
        found = items[places.start : places.stop : places.step]
    else:
        found = (items[place] for place in places)
        found = array(items.typecode, found) if isinstance(items, array) else tuple(found)
    return Held(len(items), places, found)


def held(items: Sequence[T]) -> Sequence[T]:
    """Return the items that are here."""
    return items.items if isinstance(items, Held) else items


def in_place(of: Sequence[Any], made: Sequence[U]) -> Sequence[U]:
    """Return what was made of the items that are here, each in the place of its own."""
    return Held(of.size, of.places, made) if isinstance(of, Held) else made


def joined(first: Sequence[T], second: Sequence[T]) -> Sequence[T]:
    """Return one sequence behind the other; of what is held the places move along."""
    if not isinstance(first, Held) or not isinstance(second, Held):
        return (*first, *second)
    places = (*first.places, *(first.size + place for place in second.places))
    return Held(len(first) + len(second), places, (*first.items, *second.items))
