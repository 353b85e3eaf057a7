"""Texts for the blocks of a trace's prompts, so that the prefix cache finds what it found then.

Mooncake's trace names blocks of 512 tokens, and equal ids mean equal tokens. Here equal ids become
equal text, cut by count: a block and the space before it are 512 tokens together. A space, since
tokenizers put it at the beginning of the next word's token, so that what came before changes
nothing. The first block of a prompt is shorter by the chat template, which is part of its tokens.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from ..prompts.count import TokenCounter
from ..prompts.pack import Goal, PromptSearch, Search, cut, run_together
from ..prompts.prompt import user_prompt
from .rows import BLOCK_TOKENS
from .trace import TraceRequest

BEFORE = " "  # stands before each block but a prompt's first
LEAD = "x"  # stands for the block before, while a block is counted
WITHIN = 1  # tokens by which a block may be longer or shorter
# Tokens by which blocks end late, since a template adds an unknown number after the text. No harm:
# a server caches pages of 16 tokens, and finds 512 tokens where up to 527 are the same.
AFTER = 8
CUTS_AT_ONCE = 512  # the server counts 8 at once; the texts of all are in memory
TEXTS_KEPT = 20_000  # of 2 kB each, while prompts are made from them
SLACK = 1.5  # how much longer than needed a text is, before it is cut; twice as much a try

# Takes a block, a number of characters and the number of the try; returns a text of at least so
# many. For one block and try, a shorter text is the beginning of a longer one.
Write = Callable[[int, float, int], str]


class Blocks:
    """The text of each block. Of those that several prompts begin with, where it is cut is kept."""

    def __init__(
        self, write: Write, counter: TokenCounter, overhead: int, chars_per_token: float
    ) -> None:
        """`overhead` is the tokens of chat template and system prompt."""
        self._write = write
        self._counter = counter
        self._overhead = overhead
        self._chars_per_token = chars_per_token
        self._ends: dict[tuple[int, bool], int] = {}  # by block, and whether it is a prompt's first
        self.text = functools.lru_cache(TEXTS_KEPT)(self._block_text)

    def cut_shared(self, requests: Sequence[TraceRequest]) -> None:
        """Find where the blocks end with which several of these requests begin.

        Others are about as long: nobody looks for them in a cache. Raises PromptError.
        """
        uses = Counter(block for request in requests for block in request.block_ids or ())
        begin = (
            itertools.takewhile(lambda block: uses[block] > 1, (request.block_ids or ())[:-1])
            for request in requests
        )
        wanted = iter(dict.fromkeys((b, n == 0) for blocks in begin for n, b in enumerate(blocks)))
        while batch := list(itertools.islice(wanted, CUTS_AT_ONCE)):
            searches = [self._search_end(*block) for block in batch]
            for block, found in zip(batch, run_together(searches, self._counter), strict=True):
                if found is not None:
                    self._ends[block] = len(found.text) - len(_lead(block[1]))

    def search(self, block_ids: Sequence[int], goal: Goal, attempt: int) -> PromptSearch:
        """Search where to cut a prompt's own blocks; those that it shares stay whole if it can."""
        *before, last = block_ids
        keys = [(block, place == 0) for place, block in enumerate(before)]
        shared = list(itertools.takewhile(self._ends.__contains__, keys))
        begin = "".join(self.text(*key) + BEFORE for key in shared)
        own = "".join(self.text(*key) + BEFORE for key in keys[len(shared) :])
        after = Goal(goal.tokens, self._tokens(len(shared)) if shared else goal.overhead)
        # All that isn't shared is longer than needed: what it was taken for may be 10 % off.
        missing = self._chars(max(1, after.tokens - after.overhead), attempt) - len(own)
        draft = begin + own + self._write(last, max(1, missing), attempt)
        found = yield from self._cut(draft, after, least=len(begin))
        # The shared blocks alone may be too long, with a long system prompt before them.
        if found is None and shared:
            found = yield from self._cut(draft, goal)
        return None if found is None else user_prompt(f"blocks:{block_ids[0]}-{last}", found)

    def _search_end(self, block_id: int, first: bool) -> PromptSearch:
        """Search where a block ends, in its text after what stands for the block before."""
        lead = _lead(first)
        goal = Goal(self._overhead + 1 + BLOCK_TOKENS, self._overhead + 1, WITHIN)
        if first:
            goal = Goal(self._tokens(1), self._overhead, WITHIN)
        for attempt in (0, 2):
            draft = lead + self._write(block_id, self._chars(BLOCK_TOKENS, attempt), 0)
            found = yield from self._cut(draft, goal, least=len(lead))
            if found is not None:
                return user_prompt("block", found)
        return None

    def _block_text(self, block_id: int, first: bool) -> str:
        end = self._ends.get((block_id, first))
        if end is not None:
            return self._write(block_id, end, 0)[:end]
        usual = int(BLOCK_TOKENS * self._chars_per_token)
        return self._write(block_id, usual, 0)[:usual].rstrip()

    def _tokens(self, blocks: int) -> int:
        """Return the tokens of a prompt of so many shared blocks, with the template around them."""
        return max(BLOCK_TOKENS * blocks + AFTER, self._overhead + 1)

    def _chars(self, tokens: int, attempt: int) -> float:
        """Return the length of a text that is cut to so many tokens."""
        return tokens * self._chars_per_token * SLACK * (1 << attempt) + 16

    def _cut(self, draft: str, goal: Goal, least: int = 0) -> Search:
        tokens = goal.overhead + (len(draft) - least) / self._chars_per_token
        return cut(draft, tokens, goal, least)


def _lead(first: bool) -> str:
    return "" if first else LEAD + BEFORE
