"""Prompts for a trace: real text, each with the length of its request.

A trace has lengths and no texts. Each request gets prompts of the set, joined by blank lines and
cut to its number of tokens. Each has a different beginning, so that a prefix cache finds nothing.
Where the trace names a prompt's blocks, equal ids become equal text, so that the cache finds what
it found when the trace was recorded.
"""

from __future__ import annotations

import itertools
import random
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..prompts.count import TokenCounter
from ..prompts.order import derive_seed, endless_permutations, permutation
from ..prompts.pack import (
    BETWEEN,
    FIRST_GUESS_CHARS_PER_TOKEN,
    Goal,
    PromptSearch,
    cut,
    run_in_tries,
)
from ..prompts.prompt import Prompt, PromptError, PromptSet, PromptSource, user_prompt
from ..prompts.source import set_of
from .blocks import Blocks
from .trace import Trace, TraceRequest

SAMPLE, SAMPLE_CHARS = 64, 2000  # texts and their length, to estimate the characters per token
SLACK = 1.25  # how much longer than needed a text is, before it is cut
WORD_START = re.compile(r"(?<!\S)\S")


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that is then cut to a prompt."""

    id: str
    text: str
    ends: tuple[int, ...] = ()  # where each of its parts ends, if parts are counted

    def prompt(self, text: str) -> Prompt:
        """Return the prompt that a cut of this draft makes."""
        more = sum(end < len(text) for end in self.ends)
        return user_prompt(self.id + (f"+{more}" if more else ""), text)


def trace_prompts(
    trace: Trace, source: PromptSource, counter: TokenCounter, seed: int
) -> PromptSet:
    """Return a prompt for each request, in the trace's order, within 2 % of its tokens.

    Raises PromptError where one can't be made.
    """
    if not source.prompts:
        raise PromptError(f"{source.dataset}: no prompts")
    if not trace.requests:
        raise PromptError(f"{trace.kind}: the trace has no requests")
    overhead, chars_per_token = measure(Writer(source.prompts, seed), counter)
    goals, notes = _goals(trace, overhead)
    writer = Writer(source.prompts, seed, chars_per_token)
    _check_longest(writer, goals, counter)
    blocks = Blocks(writer.block, counter, overhead, chars_per_token)
    blocks.cut_shared(trace.requests)
    prompts = _search_all(writer, blocks, trace.requests, goals, counter)
    return set_of(source, prompts, counter, notes)


def measure(writer: Writer, counter: TokenCounter) -> tuple[int, float]:
    """Return the tokens of chat template and system prompt, and the characters of each other.

    Of texts as they will be written: a blank line and a word without its neighbours have tokens of
    their own, so that the set's prompts one by one may have 6 % more or fewer.
    """
    texts = [writer.written(f"measure {n}", SAMPLE_CHARS)[:SAMPLE_CHARS] for n in range(SAMPLE)]
    one, *counts = counter.count([user_prompt("measure", text) for text in ("x", *texts)])
    overhead = max(0, (one or 1) - 1)
    counted = [(len(t), n - overhead) for t, n in zip(texts, counts, strict=True) if n is not None]
    tokens = sum(n for _, n in counted)
    chars = sum(length for length, _ in counted)
    return overhead, chars / tokens if tokens > 0 else FIRST_GUESS_CHARS_PER_TOKEN


def _goals(trace: Trace, overhead: int) -> tuple[list[Goal], list[str]]:
    """Return each request's length, and notes on lengths that differ from the trace's."""
    known = [r.prompt_tokens for r in trace.requests if r.prompt_tokens is not None]
    if not known:
        raise PromptError(f"{trace.kind}: no request of the trace has a number of prompt tokens")
    usual, smallest = statistics.median_low(known), overhead + 1
    wanted = [usual if r.prompt_tokens is None else r.prompt_tokens for r in trace.requests]
    notes = []
    if len(known) < len(wanted):
        notes.append(f"{len(wanted) - len(known)} prompts of unknown length: {usual} tokens each,")
        notes[-1] += " the others' median"
    short = sum(tokens < smallest for tokens in wanted)
    if short:
        notes.append(f"{short} prompts raised to {smallest} tokens: template and system prompt")
        notes[-1] += f" alone take {overhead}"
    goals = [Goal(max(tokens, smallest), overhead) for tokens in wanted]
    return goals, [f"{trace.kind}: {note}" for note in notes]


class Writer:
    """Writes drafts. A draft depends on the seed and its own request, not on other drafts."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        seed: int,
        chars_per_token: float = FIRST_GUESS_CHARS_PER_TOKEN,
    ) -> None:
        """Write with the texts of these prompts."""
        self._prompts = prompts
        self._seed = seed
        self.chars_per_token = chars_per_token
        # In this order requests begin with whole prompts, so the first ones have one each.
        self._starts = permutation(len(prompts), seed)
        self._drawn: list[int] = []

    def draft(self, number: int, goal: Goal, attempt: int = 0) -> Draft:
        """Return a text for request `number` that is longer than its goal."""
        tokens = (goal.tokens - goal.overhead) * SLACK * (1 << attempt)
        chars = tokens * self.chars_per_token + 16
        if attempt == 0 and number < len(self._prompts):
            self._drawn += itertools.islice(self._starts, max(0, number + 1 - len(self._drawn)))
            start, name = self._prompts[self._drawn[number]], f"request {number}"
            return Draft(start.id, *self._joined(start.text, name, chars))
        name = f"request {number} try {attempt}"
        prompt_id, opening = self._opening(name)
        return Draft(prompt_id, *self._joined(opening, name, chars))

    def search(self, number: int, goal: Goal, attempt: int) -> PromptSearch:
        """Search where to cut request `number`'s draft."""
        draft = self.draft(number, goal, attempt)
        tokens = goal.overhead + len(draft.text) / self.chars_per_token
        text = yield from cut(draft.text, tokens, goal)
        return None if text is None else draft.prompt(text)

    def block(self, block_id: int, chars: float, attempt: int) -> str:
        """Return the beginning of a block's text, at least this long; a longer one goes on."""
        return self.written(f"block {block_id}" + (f" try {attempt}" if attempt else ""), chars)

    def written(self, name: str, chars: float) -> str:
        """Return the beginning of the text of this name, at least this long."""
        return self._joined(self._opening(name)[1], name, chars)[0]

    def _opening(self, name: str) -> tuple[str, str]:
        """Return a unique beginning: a prompt from one of its words on, and its id."""
        rng = random.Random(derive_seed(self._seed, f"opening of {name}"))
        prompt = self._prompts[int(rng.random() * len(self._prompts))]
        words = [found.start() for found in WORD_START.finditer(prompt.text)] or [0]
        word = int(rng.random() * len(words))
        return prompt.id + (f"@{word}" if word else ""), prompt.text[words[word] :]

    def _joined(self, opening: str, name: str, chars: float) -> tuple[str, tuple[int, ...]]:
        """Return at least this many characters of prompts, and where each prompt ends."""
        order = endless_permutations(len(self._prompts), derive_seed(self._seed, f"rest of {name}"))
        parts, length, ends = [opening.strip()], len(opening.strip()), list[int]()
        while length < chars:
            ends.append(length)
            parts.append(self._prompts[next(order)].text.strip())
            length += len(BETWEEN) + len(parts[-1])
        return BETWEEN.join(parts), tuple(ends)


def _check_longest(writer: Writer, goals: Sequence[Goal], counter: TokenCounter) -> None:
    """Refuse a trace whose longest prompt the server refuses, before making hundreds of prompts."""
    longest = max(goals, key=lambda goal: goal.tokens)
    # Very probably shorter than the goal.
    chars = int((longest.tokens - longest.overhead) * writer.chars_per_token * 0.8)
    text = writer.draft(goals.index(longest), longest).text[: max(1, chars)]
    if counter.count([user_prompt("longest", text)]) == [None]:
        raise PromptError(
            f"the server refuses a prompt as long as the trace's longest, {longest.tokens} tokens:"
            " raise its MAX_MODEL_LEN, or leave out longer requests"
        )


def _search_all(
    writer: Writer,
    blocks: Blocks,
    requests: Sequence[TraceRequest],
    goals: Sequence[Goal],
    counter: TokenCounter,
) -> tuple[Prompt, ...]:
    """Make every request's prompt; equal blocks cut to equal lengths are made once."""

    def search(number: int, attempt: int) -> PromptSearch:
        ids, goal = requests[number].block_ids, goals[number]
        if ids is None:
            return writer.search(number, goal, attempt)
        return blocks.search(ids, goal, attempt)

    same: dict[object, list[int]] = {}
    for number, (request, goal) in enumerate(zip(requests, goals, strict=True)):
        what = number if request.block_ids is None else (request.block_ids, goal.tokens)
        same.setdefault(what, []).append(number)
    firsts = [numbers[0] for numbers in same.values()]
    found = run_in_tries(firsts, search, counter)
    if missing := [number for number in firsts if number not in found]:
        lengths = sorted(goals[number].tokens for number in missing)
        raise PromptError(
            f"{len(missing)} prompts of the trace, of {lengths[0]} to {lengths[-1]} tokens, can't"
            " be made: the server refuses such a length, or no cut comes within 2 %"
        )
    own = {number: numbers[0] for numbers in same.values() for number in numbers}
    return tuple(found[own[number]] for number in range(len(requests)))
