"""What an endless prefix cache would find of each turn that a run plays. Pure.

Of recorded histories alone, by the trace's blocks and lengths: what this server will answer, and
what two texts have in common, isn't known before.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...sessions.possible import EndlessCache, possible_hits
from ...sessions.session import Sessions
from ...traces.possible import USUAL_BLOCK
from .script import Plays


@dataclass(frozen=True, slots=True)
class PlayedHits:
    """The possible hits of each request of a part that plays sessions, in tokens, by its number."""

    block_size: int
    known: bool  # whether the server said its block size
    wanted_share: float  # of the prompt tokens, where each session is played once and whole
    primed_cached_tokens: int  # found of what was sent for plays that begin deeper
    begun: array[int]  # of the first rounds, in which plays begin deeper, or find what others left
    a_round: array[int]  # of each round after them

    def of(self, number: int) -> int:
        if number < len(self.begun):
            return self.begun[number]
        return self.a_round[(number - len(self.begun)) % len(self.a_round)]


@dataclass(frozen=True, slots=True)
class Cache:
    """What decides what a server can find of a run's prompts, beside these."""

    block_size: int | None = None  # None: the server doesn't say
    head: int = 0  # tokens that all prompts begin with: of the template, and a system prompt
    salted: bool = True  # each round of plays is under a salt of its own


def played_hits(
    sessions: Sessions, plays: Plays, primes: Iterable[tuple[int, int]], cache: Cache
) -> PlayedHits:
    """Return what can be found, in the order of the plays; `primes` are sent before them."""
    size = cache.block_size or USUAL_BLOCK
    whole = possible_hits(sessions, size, cache.head)
    made = _Rounds(sessions, plays, size, cache)
    primed = sum(made.sent(play, place) for play, place in primes)
    rounds = math.ceil(len(plays.begins) / len(plays.order))
    if not cache.salted:  # the first round that finds all is the one after a whole one
        rounds += 1
    begun = array("q", made.hits(range(rounds * len(plays.order))))
    after = range(rounds * len(plays.order), (rounds + 1) * len(plays.order))
    a_round, known = array("q", made.hits(after)), cache.block_size is not None
    return PlayedHits(size, known, whole.share, primed, begun, a_round)


def hits_by_the_clock(sessions: Sessions, cache: Cache) -> PlayedHits:
    """Return what can be found of sessions that are each played once, in their recorded order."""
    size = cache.block_size or USUAL_BLOCK
    found = possible_hits(sessions, size, cache.head)
    each = array("q", (hit for session in found.by_turn for hit in session))
    return PlayedHits(size, cache.block_size is not None, found.share, 0, array("q"), each)


class _Rounds:
    """Rounds of plays, one turn after the other."""

    def __init__(self, sessions: Sessions, plays: Plays, size: int, cache: Cache) -> None:
        self._plays = plays
        self._salted = cache.salted
        self._sessions = sessions
        self._size = size
        self._head = cache.head
        self._caches: dict[int, EndlessCache] = {}  # by round, which has its own salt

    def hits(self, plays: range) -> Iterator[int]:
        for play in plays:
            begin = self._plays.begin(play)
            for place in range(begin, begin + self._plays.size(play)):
                yield self.sent(play, place)

    def sent(self, play: int, place: int) -> int:
        """Add a turn's prompt; return the tokens that are found of it."""
        a_round, at = divmod(play, len(self._plays.order))
        salt = a_round if self._salted else 0
        cache = self._caches.get(salt)
        if cache is None:
            cache = EndlessCache(self._sessions, self._size, self._head)
            self._caches[salt] = cache
        return cache.sent(self._plays.order[at], place)
