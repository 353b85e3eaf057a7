"""Which prompt tokens a cache that never forgets would have had, by the ids or lengths of a plan.

With blocks of B tokens and C the chains of whole blocks that were there before, prompt i of n_i
tokens has `h_i = B · max{k: k·B ≤ n_i - 1 and chain(first k blocks) in C}`; then all its whole
blocks join C. A server always computes a prompt's last token, and so its last block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..traces.possible import USUAL_BLOCK
from .session import Sessions


@dataclass(frozen=True, slots=True)
class PossibleHits:
    """The tokens that could be found in a cache."""

    prompt_tokens: int
    by_turn: tuple[tuple[int, ...], ...]  # by session, in the order of Sessions

    @property
    def tokens(self) -> int:
        return sum(sum(hits) for hits in self.by_turn)

    @property
    def share(self) -> float:
        return self.tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def possible_hits(
    sessions: Sessions, block_tokens: int | None = None, head: int = 0
) -> PossibleHits:
    """Return the hits of each turn when all are sent in the order in which they were recorded.

    `block_tokens` is of the server's blocks; without it they are as the sessions' own.
    """
    size = block_tokens or sessions.block_tokens or USUAL_BLOCK
    found = [[0] * len(session.turns) for session in sessions.sessions]
    cache = EndlessCache(sessions, size, head)
    for number, place in _in_order(sessions):
        found[number][place] = cache.sent(number, place)
    prompts = sum(turn.prompt_tokens or 0 for s in sessions.sessions for turn in s.turns)
    return PossibleHits(prompts, tuple(map(tuple, found)))


def _in_order(sessions: Sessions) -> Iterator[tuple[int, int]]:
    """Yield the session and the place of each turn: by time, where it matters across sessions."""
    places = (
        (number, place)
        for number, session in enumerate(sessions.sessions)
        for place in range(len(session.turns))
    )
    if not sessions.blocks_shared:
        yield from places
        return
    times: dict[tuple[int, int], float] = {}
    for number, place in places:
        session = sessions.sessions[number]
        due_s = session.turns[place].not_before_s or 0.0
        times[number, place] = (session.starts_s or 0.0) + due_s
    yield from sorted(times, key=lambda at: (times[at], at))


class EndlessCache:
    """Prompts of sessions that were sent under one salt.

    Where there are no ids, a prompt begins with its history's, and answers are never found.
    """

    def __init__(self, sessions: Sessions, size: int, head: int = 0) -> None:
        """`size` is of the server's blocks; all prompts begin with the same `head` tokens."""
        self._sessions = sessions
        self._size = size
        self._head = head
        self._own = (sessions.block_tokens or size) / sessions.length_divisor
        self._chains: dict[int | None, _Chains] = {}  # of all sessions together, or by session
        self._sent: set[tuple[int, int]] = set()

    def sent(self, number: int, place: int) -> int:
        """Add a session's turn, and return the tokens that were there of its prompt."""
        tokens = self._sessions.sessions[number].turns[place].prompt_tokens or 0
        same = max(self._before(number, place, tokens), self._head if self._sent else 0)
        self._sent.add((number, place))
        return int(min(same, max(0, tokens - 1)) // self._size) * self._size

    def _before(self, number: int, place: int, tokens: int) -> float:
        turns = self._sessions.sessions[number].turns
        turn = turns[place]
        if (number, place) in self._sent:
            return tokens
        if turn.block_ids is not None:
            scope = None if self._sessions.blocks_shared else number
            chains = self._chains.setdefault(scope, _Chains())
            return chains.known(turn.block_ids, self._own, tokens)
        before = (number, turn.history) in self._sent and turns[turn.history or 0].prompt_tokens
        return before if before and before < tokens else 0  # a shorter one begins anew


class _Chains:
    """The chains of blocks that were sent. A prompt's last block may be a part of one."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, int], int] = {}  # a chain and a block → the longer chain
        self._parts: dict[int, float] = {}  # tokens of a chain's last block, if not all of it

    def known(self, block_ids: Sequence[int], size: float, tokens: int) -> float:
        """Return how many tokens of a prompt were there, and add all of it."""
        after, parts, chain, place = self._after, self._parts, 0, 0
        for block in block_ids:
            longer = after.get((chain, block))
            if longer is None:
                break
            chain, place = longer, place + 1
            if chain in parts:
                break
        known = min(float(tokens), (place - 1) * size + parts.get(chain, size)) if place else 0.0
        new = block_ids[place:]
        if new:
            parts.pop(chain, None)  # other blocks follow it: it is whole here
        for block in new:
            chain = after.setdefault((chain, block), len(after) + 1)
        last = tokens - (len(block_ids) - 1) * size
        if last >= size:
            parts.pop(chain, None)
        elif new or chain in parts:
            parts[chain] = max(last, parts.get(chain, 0.0))
        return known
