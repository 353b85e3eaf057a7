"""Packed prompts: real prompts joined by blank lines to a length in tokens, within 2 %.

Each starts with another prompt of the set, so that a prefix cache finds nothing in common. The
last part is cut at the end of a word, or, if a word is longer than the tolerance (a Chinese
paragraph counts as one word), at a character. A search gets counts through `yield`, so that the
searches of all prompts advance together and the server counts a batch of them at once.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .count import TokenCounter
from .order import derive_seed, endless_permutations, permutation
from .prompt import Prompt, user_prompt

TOLERANCE = 0.02
BETWEEN = "\n\n"
FIRST_GUESS_CHARS_PER_TOKEN = 4.0
MOST_COUNTS = 40  # per search; four or five are usual
WORD_END = re.compile(r"(?<=\S)(?=\s)|\Z")

MOST_TRIES = 6  # each with another beginning and twice the text; usually one is enough
SEARCHES_AT_ONCE = 64  # the server counts 8 at once; the texts of all are in memory

# Each yields a text and is sent how many tokens it has; None: the server refuses it as too long.
Search = Generator[str, "int | None", "str | None"]
PromptSearch = Generator[str, "int | None", "Prompt | None"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The length to reach, in tokens."""

    tokens: int
    overhead: int  # the tokens of chat template and system prompt
    within: int | None = None  # tokens by which it may be missed; None: 2 %, at least 1

    @property
    def tolerance(self) -> int:
        return max(1, int(self.tokens * TOLERANCE)) if self.within is None else self.within

    def met_by(self, counted: int | None) -> bool:
        return counted is not None and abs(counted - self.tokens) <= self.tolerance

    def exceeded_by(self, counted: int | None) -> bool:
        """Return whether the text must be cut. A refused text is too long."""
        return counted is None or counted > self.tokens


@dataclass(frozen=True, slots=True)
class Cut:
    """A text cut after `chars` characters, and the number of tokens that are left."""

    chars: int
    tokens: float


def pack_prompts(
    source: Sequence[Prompt], count: int, goal: Goal, seed: int, counter: TokenCounter
) -> list[Prompt]:
    """Return up to `count` distinct prompts that meet the goal; fewer where the set is small."""
    # Some starts may fail (no cut fits, or two packed prompts are equal); not all are tried.
    starts = itertools.islice(permutation(len(source), seed), 2 * count + 16)
    made: dict[str, Prompt] = {}
    while len(made) < count:
        searches = [
            _pack(source, start, goal, seed)
            for start in itertools.islice(starts, count - len(made))
        ]
        if not searches:
            break
        for prompt in run_together(searches, counter):
            if prompt is not None:
                made.setdefault(prompt.text, prompt)
    return list(made.values())


def _pack(source: Sequence[Prompt], start: int, goal: Goal, seed: int) -> PromptSearch:
    """Search one packed prompt that starts with the prompt at `start`; None: none fits."""
    text, ends, counted = yield from _join(_parts(source, start, seed), goal)
    tokens = float(counted) if counted is not None else len(text) / FIRST_GUESS_CHARS_PER_TOKEN
    found = text if goal.met_by(counted) else (yield from cut(text, tokens, goal))
    if found is None:
        return None
    more = bisect.bisect_left(ends, len(found))
    return user_prompt(source[start].id + (f"+{more}" if more else ""), found)


def _join(
    parts: Iterator[Prompt], goal: Goal
) -> Generator[str, int | None, tuple[str, list[int], int | None]]:
    """Join parts until the text is long enough; return it, where each part ends, and its tokens."""
    text, ends = "", list[int]()
    counted: int | None = goal.overhead
    chars_per_token = FIRST_GUESS_CHARS_PER_TOKEN
    for _ in range(MOST_COUNTS):
        missing = goal.tokens - (counted or 0)
        enough = len(text) + missing * chars_per_token * 1.1
        while not text or len(text) < enough:
            text += (BETWEEN if text else "") + next(parts).text.strip()
            ends.append(len(text))
        counted = yield text
        if goal.exceeded_by(counted) or goal.met_by(counted):
            break
        # Bounded: with a server that counts far too few tokens the text would grow forever.
        chars_per_token = min(32.0, len(text) / max(1, (counted or 0) - goal.overhead))
    return text, ends, counted


def _parts(source: Sequence[Prompt], start: int, seed: int) -> Iterator[Prompt]:
    """Yield the prompt at `start`, then all others in an order of their own, endlessly."""
    yield source[start]
    own_order = endless_permutations(len(source), derive_seed(seed, f"parts {start}"))
    first_turn = itertools.islice(own_order, len(source))
    for index in itertools.chain((i for i in first_turn if i != start), own_order):
        yield source[index]


def cut(text: str, tokens: float, goal: Goal, least: int = 0) -> Search:
    """Search where to cut a text that is too long, first at the ends of words.

    `tokens` is the number of tokens of the full text, with the overhead; an estimate is enough.
    More than `least` characters are kept, which belong to the overhead.
    """
    low, high = Cut(least, goal.overhead), Cut(len(text), max(tokens, goal.tokens + 1.0))
    word_ends = [found.start() for found in WORD_END.finditer(text)]
    for step in range(MOST_COUNTS):
        begin = bisect.bisect_right(word_ends, low.chars)
        end = bisect.bisect_left(word_ends, high.chars)
        places: Sequence[int] = word_ends[begin:end] or range(low.chars + 1, high.chars)
        if not places:
            return None  # a single character more or less misses the goal
        chars = _guess(places, low, high, goal, halve=step % 4 == 3)
        piece = text[:chars].rstrip()
        counted = yield piece
        if goal.met_by(counted):
            return piece
        if goal.exceeded_by(counted):
            high = Cut(chars, counted if counted is not None else high.tokens)
        else:
            low = Cut(chars, counted or 0)
    return None


def _guess(places: Sequence[int], low: Cut, high: Cut, goal: Goal, *, halve: bool) -> int:
    """Return the position of the goal if tokens were spread evenly.

    An occasional halving bounds the search if they aren't.
    """
    if halve:
        return places[len(places) // 2]
    share = (goal.tokens - low.tokens) / max(1.0, high.tokens - low.tokens)
    wanted = low.chars + share * (high.chars - low.chars)
    return places[min(bisect.bisect_left(places, wanted), len(places) - 1)]


def run_in_tries(
    numbers: Iterable[int], search: Callable[[int, int], PromptSearch], counter: TokenCounter
) -> dict[int, Prompt]:
    """Return what `search(number, try)` finds of these numbers; what fails in all tries lacks."""
    found: dict[int, Prompt] = {}
    missing = list(numbers)
    for attempt in range(MOST_TRIES):
        for first in range(0, len(missing), SEARCHES_AT_ONCE):
            batch = missing[first : first + SEARCHES_AT_ONCE]
            searches = [search(number, attempt) for number in batch]
            made = zip(batch, run_together(searches, counter), strict=True)
            found.update((number, prompt) for number, prompt in made if prompt is not None)
        missing = [number for number in missing if number not in found]
    return found


def run_together(searches: Sequence[PromptSearch], counter: TokenCounter) -> list[Prompt | None]:
    """Advance all searches by one count at a time, until all have ended."""
    results: list[Prompt | None] = [None] * len(searches)
    asking: dict[int, str] = {number: next(search) for number, search in enumerate(searches)}
    while asking:
        counts = counter.count([user_prompt("search", text) for text in asking.values()])
        answered, asking = asking, {}
        for (number, text), counted in zip(answered.items(), counts, strict=True):
            try:
                asking[number] = searches[number].send(counted)
            except StopIteration as done:
                # The text that was counted last is the result.
                found: Prompt | None = done.value
                assert found is None or found.text == text
                results[number] = found and replace(found, tokens=counted)
    return results
