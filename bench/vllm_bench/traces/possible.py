"""What a prefix cache could have of each prompt: one that never forgets, in whole blocks. Pure.

A vLLM server keeps whole blocks of B tokens, each under a hash of everything up to its end, and
always computes the last token of a prompt. Of a prompt of n tokens whose first c are those of an
earlier one it can have min(c, n - 1), rounded down to whole blocks. Prompts count in the order in
which they are sent: on vLLM those of one beginning that are sent together do find each other's
blocks (on other servers the second of two may miss them).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

USUAL_BLOCK = 16  # tokens: vLLM's on most GPUs, taken where the server doesn't say its own


def found(common: int, length: int, block: int) -> int:
    """Return the tokens found of a prompt of this length that has begun so alike before."""
    return max(0, min(common, length - 1)) // block * block


class Seen:
    """Beginnings that were sent before, as chains of blocks."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, int], int] = {}  # a beginning, its next block → that beginning

    def common(self, block_ids: Iterable[int], tokens: int, block_tokens: int) -> int:
        """Return how many tokens an earlier prompt began with too, and remember this one.

        Equal ids mean equal blocks of `block_tokens`; the last one may be a part of a block.
        """
        beginning, left, common = 0, tokens, 0
        for block in block_ids:
            key = (beginning, block)
            common += min(left, block_tokens) * (key in self._after)
            left -= block_tokens
            beginning = self._after.setdefault(key, len(self._after) + 1)
        return common


@dataclass(frozen=True, slots=True)
class Possible:
    """The possible hits of each request of a part, in tokens, by its number.

    A part has fewer prompts than requests where it uses them again: `cycle` uses of a prompt are
    under one salt, or with no salt at all.
    """

    block_size: int
    known: bool  # whether the server said its block size
    first: Sequence[int]  # of each prompt, at its first use
    again: tuple[Sequence[int], ...]  # at its second use, its third, …: the last for all after it
    renewed: Sequence[int]  # at each use that is the first under its salt, but the very first
    cycle: int = 1

    def of(self, number: int) -> int:
        turn, place = divmod(number, len(self.first))
        if turn == 0:
            return self.first[place]
        use = turn % self.cycle
        return self.again[min(use, len(self.again)) - 1][place] if use else self.renewed[place]


def once(commons: Iterable[int], lengths: Sequence[int], block: int | None) -> Possible:
    """Return the possible hits of prompts that are each sent once; None: the block is unknown."""
    size = block or USUAL_BLOCK
    pairs = zip(commons, lengths, strict=True)
    hits = array("q", (found(common, length, size) for common, length in pairs))
    return Possible(size, block is not None, hits, (hits,), hits)
