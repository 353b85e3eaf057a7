"""What a run plays of its sessions, and under which numbers their turns go.

A play is one run through a session. Plays are numbered in the order in which they begin, and go
round and round the sessions where those run out; the requests of a play have numbers in a row. So
each number is one turn of one play, whoever asks.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ...records.request_record import WaitKind


@dataclass(frozen=True, slots=True)
class Step:
    """A turn of a session, as it will be played. Turns are known by their places in it."""

    after: tuple[int, ...] = ()  # whose ends it waits for; all are before it
    wait_ns: int = 0  # from the last of these ends; of a first turn from the play's start
    wait_kind: WaitKind | None = None  # None: no wait is known
    not_before_ns: int | None = None  # from the play's start, whatever has ended by then
    history: int | None = None  # the turn that it goes on from
    agent: str | None = None  # the sub-agent; None: the session itself
    cut_ns: int = 0  # by which the wait is shorter than the recorded one


@dataclass(frozen=True)
class Course:
    """The turns of a session; conversations share theirs."""

    steps: tuple[Step, ...]

    @cached_property
    def followers(self) -> Sequence[Sequence[int]]:
        """Of each turn the places of those that wait for it."""
        found: list[list[int]] = [[] for _ in self.steps]
        for place, step in enumerate(self.steps):
            for before in step.after:
                found[before].append(place)
        return found

    @cached_property
    def lanes(self) -> int:
        """How many turns may be due or under way at once, at most.

        Each turn takes over from one that it waits for, if none has before: as many chains.
        """
        followed: set[int] = set()
        chains = 0
        for step in self.steps:
            free = next((place for place in step.after if place not in followed), None)
            chains += free is None
            followed |= set() if free is None else {free}
        return chains


@dataclass(frozen=True, slots=True)
class Script:
    """A session to be played."""

    name: str
    course: Course

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.course.steps


@dataclass(frozen=True)
class Plays:
    """The plays of a part of a run."""

    scripts: tuple[Script, ...]
    order: array[int]  # scripts by play, one round of them
    wanted: int  # how many plays there are; of a loop that goes by time: at least
    begins: tuple[int, ...] = ()  # of the first plays: the place at which each begins
    live: bool = False  # prompts have this server's answers in them; else they are known before

    @cached_property
    def _sizes(self) -> array[int]:
        """Turns of all plays before each one of a round, and of the round."""
        sizes = (len(self.scripts[number].steps) for number in self.order)
        return array("Q", accumulate(sizes, initial=0))

    @cached_property
    def _skipped(self) -> array[int]:
        """Turns that the plays before each one don't have, since they begin deeper."""
        return array("Q", accumulate(self.begins, initial=0))

    @cached_property
    def _offsets(self) -> array[int]:
        """Where each script's turns begin in a list of those of all scripts."""
        return array("Q", accumulate((len(s.steps) for s in self.scripts), initial=0))

    @cached_property
    def _first_requests(self) -> Sequence[int]:
        return [self.first(play) for play in range(len(self.begins) + 1)]

    def script(self, play: int) -> Script:
        return self.scripts[self.order[play % len(self.order)]]

    def begin(self, play: int) -> int:
        """Return the place at which a play begins."""
        return self.begins[play] if play < len(self.begins) else 0

    def first(self, play: int) -> int:
        """Return the number of a play's first request."""
        rounds, at = divmod(play, len(self.order))
        skipped = self._skipped[min(play, len(self.begins))]
        return rounds * self._sizes[-1] + self._sizes[at] - skipped

    def size(self, play: int) -> int:
        """Return how many requests a play has."""
        return len(self.script(play).steps) - self.begin(play)

    def at(self, number: int) -> tuple[int, int]:
        """Return the play of request `number`, and its place in the session."""
        if number < self._first_requests[-1]:
            play = bisect_right(self._first_requests, number) - 1
        else:
            rounds, rest = divmod(number + self._skipped[-1], self._sizes[-1])
            play = rounds * len(self.order) + bisect_right(self._sizes, rest) - 1
        return play, number - self.first(play) + self.begin(play)

    def position(self, play: int, place: int) -> int:
        """Return where a turn is in a list of the turns of all scripts."""
        return self._offsets[self.order[play % len(self.order)]] + place

    def until(self, requests: int) -> int:
        """Return how many plays the first so many requests belong to."""
        return self.at(requests - 1)[0] + 1 if requests else 0

    @cached_property
    def lanes(self) -> int:
        """How many turns of one play may be due or under way at once, at most."""
        return max(script.course.lanes for script in self.scripts)

    @cached_property
    def sha256(self) -> str:
        """Return a hash of what is played: in which order, from where, and with which waits."""
        total = hashlib.sha256(repr((self.order.tolist(), self.begins)).encode())
        for script in self.scripts:
            total.update(repr([dataclasses.astuple(step) for step in script.steps]).encode())
        return total.hexdigest()
