"""Which of the numbers 0, 1, 2, … are one's own: streams, requests, sessions dealt out in turns."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True, slots=True)
class Own:
    """Of each round of `period` numbers those at `places`, which ascend; none: no number is.

    A machine of one's own in a round of C streams has the streams at its places, and every request
    (play) whose number leaves the remainder of one of them. So who sends what is known without a
    word between machines.
    """

    period: int = 1
    places: Sequence[int] = (0,)

    def number(self, at: int) -> int:
        """Return the own number that `at` others are below. Raises ZeroDivisionError: none is."""
        rounds, place = divmod(at, len(self.places))
        return rounds * self.period + self.places[place]

    def below(self, end: int) -> int:
        """Return how many own numbers are below `end`."""
        rounds, rest = divmod(end, self.period)
        return rounds * len(self.places) + bisect_left(self.places, rest)

    def every(self, first: int, step: int) -> Own:
        """Return those at `first`, `first + step`, … of the own numbers: `first` < `step`."""
        if not self.places:
            return self
        rounds = step // math.gcd(step, len(self.places))
        ends = range(first, rounds * len(self.places), step)
        return Own(self.period * rounds, tuple(map(self.number, ends)))

    def among(self, of: int, place: int) -> Own:
        """Return the numbers of a run, of which these are those of its part `place` of `of`."""
        return Own(self.period * of, tuple(number * of + place for number in self.places))

    def upto(self, end: int) -> Sequence[int]:
        """Return the own numbers below `end`."""
        if len(self.places) == 1:
            return range(self.places[0], end, self.period)
        return _Upto(self, 0, self.below(end))


@dataclass(frozen=True, slots=True)
class _Upto(Sequence[int]):
    """Own numbers in a row, made when they are asked for: a run may have millions."""

    own: Own
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        found = range(self.begin, self.end)[at]
        if isinstance(found, int):
            return self.own.number(found)
        if found.step == 1:
            return _Upto(self.own, found.start, max(found.start, found.stop))
        return [self.own.number(place) for place in found]


ALL = Own()  # of the only machine
NONE = Own(1, ())
