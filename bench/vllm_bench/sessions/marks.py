"""Marks that tell plays of one session apart: each of some words, all of as many tokens.

Recorded sessions are played again where a run needs more than there are. A server that kept the
first play would find all of the second, which no recorded session did. A word in the place of
another of as many tokens makes all that follows new, and leaves alone what sessions share.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..prompts.count import TokenCounter
from ..prompts.prompt import Message, Prompt, user_prompt

WORD = re.compile(r"(?<= )[a-z]{2,8}(?= )")
LEAD = "Again"  # before them, since a prompt's first word has no blank before it
MOST_CANDIDATES, MOST_WORDS = 1024, 256
WORDS = 3  # of a mark: 256 words make 16 million


class Marks:
    """The marks of plays, in the words of a set of prompts."""

    def __init__(self, prompts: Sequence[Prompt], counter: TokenCounter) -> None:
        texts = itertools.chain.from_iterable(WORD.findall(prompt.text) for prompt in prompts)
        candidates = list(itertools.islice(dict.fromkeys(texts), MOST_CANDIDATES))
        asked = [user_prompt("word", f"{LEAD} {word} {LEAD}") for word in candidates]
        by_tokens: dict[int | None, list[str]] = defaultdict(list)
        for word, tokens in zip(candidates, counter.count(asked), strict=True):
            by_tokens[tokens].append(word)
        self._words = max(by_tokens.values(), key=len, default=[])[:MOST_WORDS]

    @property
    def most(self) -> int:
        """How many plays of a session can be told apart."""
        return len(self._words) ** WORDS if len(self._words) > 1 else 1

    def of(self, play: int) -> str:
        """Return the mark of a session's first play (0), its second, and so on."""
        return " ".join([LEAD, *self._chosen(play % self.most)]) if self.most > 1 else ""

    def _chosen(self, play: int) -> Iterator[str]:
        for _ in range(WORDS):
            play, word = divmod(play, len(self._words))
            yield self._words[word]

    def for_play(self, prompt: Prompt, play: int) -> Prompt:
        """Return a prompt that was made with the mark of play 0, with that of another."""
        first, mark = self.of(0), self.of(play)
        if not mark or mark == first:
            return prompt
        messages = list(prompt.messages)
        for place, message in enumerate(messages):
            if first in message.content:
                content = message.content.replace(first, mark, 1)
                messages[place] = Message(message.role, content)
                break
        return replace(prompt, messages=tuple(messages))
