"""Makes the texts of pieces, each as long as it must be behind those before it.

A piece is counted behind a word and a blank, which tokenizers begin the next token with, so that
what stands before it changes nothing; where a prompt ends, all of it is counted, and the last piece
is cut once more if that is off.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..prompts.count import TokenCounter
from ..prompts.pack import MOST_TRIES, SEARCHES_AT_ONCE, Goal, PromptSearch, cut, run_in_tries
from ..prompts.prompt import PromptError, user_prompt
from ..traces.blocks import BEFORE, LEAD, WITHIN
from ..traces.prompts import Writer
from .pieces import Pieces

SLACK = 1.3  # how much longer than needed a text is, before it is cut; twice as much a try
EXACT = 4  # tries for the exact length; later ones may miss it by a token, the last by 2 %
CORRECTIONS = 2  # of a prompt that isn't as long as its pieces were together


@dataclass(frozen=True, slots=True)
class Text:
    """A piece's text, and the tokens from the prompt's beginning to its end."""

    text: str
    tokens: int


class Maker:
    """The texts of all pieces."""

    def __init__(
        self, writer: Writer, counter: TokenCounter, pieces: Pieces, overhead: int
    ) -> None:
        """`overhead` is the tokens of template and system prompt."""
        self._writer = writer
        self._counter = counter
        self._pieces = pieces
        self._overhead = overhead
        self.texts: dict[int, Text] = {}

    def make(self) -> None:
        """Make all texts, those of a depth together. Raises PromptError."""
        ends = {*self._pieces.last.values(), *self._pieces.answers.values()}
        by_depth: dict[int, list[int]] = {}
        for number, piece in enumerate(self._pieces.pieces):
            by_depth.setdefault(piece.depth, []).append(number)
        for depth in sorted(by_depth):
            self._make(by_depth[depth], dict.fromkeys(by_depth[depth], 0))
            wrong = [number for number in by_depth[depth] if number in ends]
            for correction in range(CORRECTIONS + 1):
                wrong = self._correct(wrong, last=correction == CORRECTIONS)

    def whole(self, piece: int) -> str:
        """Return a prompt's text up to a piece's end."""
        parts: list[str] = []
        at: int | None = piece
        while at is not None:
            if self.texts[at].text:
                parts.append(self.texts[at].text)
            at = self._pieces.pieces[at].before
        return BEFORE.join(reversed(parts))

    def _make(self, numbers: Sequence[int], more: dict[int, int]) -> None:
        """Make pieces, each with so many tokens more than they seem to need."""
        wanted = {n: self._pieces.pieces[n].end - self._base(n) + more[n] for n in numbers}
        for number in numbers:  # one whose place those before it have taken is left empty
            self.texts[number] = Text("", self._base(number))
        needed = (number for number in numbers if wanted[number] > 0)
        made = run_in_tries(needed, lambda n, try_: self._search(n, wanted[n], try_), self._counter)
        for n, found in made.items():
            tokens = self._base(n) + (found.tokens or 0) - self._before(n)
            self.texts[n] = Text(found.text[len(self._lead(n)) :], tokens)

    def _base(self, number: int) -> int:
        """Return the tokens before a piece."""
        before = self._pieces.pieces[number].before
        return self._overhead if before is None else self.texts[before].tokens

    def _lead(self, number: int) -> str:
        """Return what stands for the pieces before, while a piece is counted."""
        return "" if self._pieces.pieces[number].before is None else LEAD + BEFORE

    def _before(self, number: int) -> int:
        return self._overhead + bool(self._lead(number))

    def _search(self, number: int, wanted: int, attempt: int) -> PromptSearch:
        """Search where a piece ends."""
        within = 0 if attempt < EXACT else WITHIN if attempt < MOST_TRIES - 1 else None
        goal = Goal(self._before(number) + wanted, self._before(number), within)
        begin = self._lead(number)
        name = self._pieces.pieces[number].name + (f" try {attempt}" if attempt else "")
        chars = wanted * self._writer.chars_per_token * SLACK * (1 << attempt) + 16
        draft = begin + self._writer.written(name, chars)
        tokens = goal.overhead + (len(draft) - len(begin)) / self._writer.chars_per_token
        found = yield from cut(draft, tokens, goal, len(begin))
        return None if found is None else user_prompt(name, found)

    def _correct(self, numbers: Sequence[int], *, last: bool) -> list[int]:
        """Count whole prompts; cut what is off once more, and return which that was."""
        more: dict[int, int] = {}
        for batch in _batches(numbers):
            prompts = [user_prompt("prompt", self.whole(number)) for number in batch]
            for number, tokens in zip(batch, self._counter.count(prompts), strict=True):
                end = self._pieces.pieces[number].end
                if tokens is None:
                    raise PromptError(
                        f"the server refuses a prompt of the sessions, of {end:,} tokens: raise its"
                        " MAX_MODEL_LEN, or set length_divisor"
                    )
                if tokens != end and not last:
                    more[number] = self.texts[number].tokens - tokens
                self.texts[number] = Text(self.texts[number].text, tokens)
        if more:
            self._again(more)
        return list(more)

    def _again(self, more: dict[int, int]) -> None:
        """Make pieces anew with what they lack, and keep the old where that can't be done."""
        before = {number: self.texts[number] for number in more}
        self._make(list(more), more)
        for number, old in before.items():
            if not self.texts[number].text:
                self.texts[number] = old


def _batches(numbers: Sequence[int]) -> Iterable[list[int]]:
    listed = iter(numbers)
    return iter(lambda: list(itertools.islice(listed, SEARCHES_AT_ONCE)), [])
