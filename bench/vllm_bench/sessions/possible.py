"""Which prompt tokens a cache that never forgets would have had, by the ids or lengths of a plan.

With blocks of B tokens and C the chains of whole blocks that were there before, prompt i of n_i
tokens has `h_i = B · max{k: k·B ≤ n_i - 1 and chain(first k blocks) in C}`; then all its whole
blocks join C. A server always computes a prompt's last token, and so its last block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .session import Sessions, Turn

USUAL_BLOCK = 16  # tokens, of a server's cache, where the sessions have no blocks


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


def possible_hits(sessions: Sessions, block_tokens: int | None = None) -> PossibleHits:
    """Return the hits of each turn when all are sent in the order in which they were recorded.

    `block_tokens` is of the server's blocks, the sessions' own without it; it must divide these.
    Where there are no ids, a prompt begins with its history's. Raises ValueError.
    """
    own = sessions.block_tokens
    size = block_tokens or own or USUAL_BLOCK
    if own is not None and own % size:
        raise ValueError(f"blocks of {own} tokens don't consist of blocks of {size}")
    found = [[0] * len(session.turns) for session in sessions.sessions]
    if sessions.blocks_shared:
        chains = _Chains(own or size, size)
        for number, place in _in_order(sessions):
            found[number][place] = chains.hits(sessions.sessions[number].turns[place])
    else:
        for number, session in enumerate(sessions.sessions):
            chains = _Chains(own or size, size)
            found[number] = [
                chains.hits(turn)
                if turn.block_ids is not None
                else _of_history(turn, session.turns, size)
                for turn in session.turns
            ]
    prompts = sum(turn.prompt_tokens or 0 for s in sessions.sessions for turn in s.turns)
    return PossibleHits(prompts, tuple(map(tuple, found)))


def _in_order(sessions: Sessions) -> Iterator[tuple[int, int]]:
    """Yield the session and the place of each turn by its recorded time."""
    times = [
        ((session.starts_s or 0.0) + (turn.not_before_s or 0.0), number, place)
        for number, session in enumerate(sessions.sessions)
        for place, turn in enumerate(session.turns)
    ]
    yield from ((number, place) for _, number, place in sorted(times))


def _of_history(turn: Turn, turns: Sequence[Turn], size: int) -> int:
    if turn.history is None or turn.prompt_tokens is None:
        return 0
    same = min(turns[turn.history].prompt_tokens or 0, turn.prompt_tokens - 1)
    return max(0, same) // size * size


class _Chains:
    """The chains of whole blocks of `size` tokens, out of ids of blocks of `own` tokens."""

    def __init__(self, own: int, size: int) -> None:
        self._parts, self._size = own // size, size
        self._after: dict[tuple[int, int, int], int] = {}  # a chain, a block and its part → a chain

    def hits(self, turn: Turn) -> int:
        """Return the tokens of a prompt that are there, and add its own."""
        tokens, chain, found, there = turn.prompt_tokens or 0, 0, 0, True
        for number in range(tokens // self._size):
            block, part = divmod(number, self._parts)
            if block >= len(turn.block_ids or ()):
                break
            key = (chain, (turn.block_ids or ())[block], part)
            there = there and key in self._after
            chain = self._after.setdefault(key, len(self._after) + 1)
            end = (number + 1) * self._size
            if there and end <= tokens - 1:
                found = end
        return found
