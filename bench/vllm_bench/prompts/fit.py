"""Choosing a run's prompts: the number and length that were asked for, in seeded order.

`natural` draws prompts as people wrote them, from half the target to twice the target (without a
target: any prompt of a user's own file, and of other sets usual lengths in a chat); `packed` joins
them until the target is met (`pack.py`). A longer draw begins with the shorter one.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .count import TokenCounter
from .order import endless_permutations, permutation
from .pack import BETWEEN, Goal, pack_prompts
from .prompt import Prompt, PromptError, PromptSet, PromptSource, told, user_prompt
from .source import set_of

SMALLEST_BATCH = 32  # prompts counted at once, at least: the server counts several in parallel
# No tokenizer makes more tokens than bytes; none is known to average this many bytes per token.
MOST_BYTES_PER_TOKEN = 32
SEND_ALL = "; without a length all prompts of a file are sent as they are"


@dataclass(frozen=True, slots=True)
class TokenRange:
    """Lengths that fit, in tokens, both ends included."""

    low: int
    high: int
    advice: str = "ask for other lengths"  # what to do if no prompt fits

    @classmethod
    def around(cls, target_tokens: int | None) -> TokenRange:
        """Return half to twice the target; without a target 50 to 500, usual lengths in a chat."""
        if target_tokens is None:
            return cls(50, 500, "set prefill_tokens, with prompt_fit: packed for longer prompts")
        advice = "set prompt_fit: packed, or another prefill_tokens"
        return cls((target_tokens + 1) // 2, target_tokens * 2, advice)

    def __contains__(self, tokens: int | None) -> bool:
        return tokens is not None and self.low <= tokens <= self.high

    @property
    def any_length(self) -> bool:
        return (self.low, self.high) == (0, sys.maxsize)

    def why_not(self, tokens: int | None) -> str:
        """Return why a prompt of this length is left out; None: the server refuses it."""
        if tokens is None:
            return "refused by the server as too long"
        if tokens < self.low:
            return f"shorter than {self.low} tokens"
        return f"longer than {self.high} tokens"


ANY_LENGTH = TokenRange(0, sys.maxsize, "raise the server's MAX_MODEL_LEN, or shorten them")


@dataclass(frozen=True, slots=True)
class Draw:
    """What to draw from, how many, in which order, and what counts the tokens."""

    source: PromptSource
    count: int
    seed: int
    counter: TokenCounter


def choose_prompts(
    draw: Draw, fit: Literal["natural", "packed"], target_tokens: int | None
) -> PromptSet:
    """Return prompts near `target_tokens`. Raises PromptError if there are none."""
    if fit == "natural":
        as_it_is = target_tokens is None and draw.source.own_file
        return choose_natural(draw, ANY_LENGTH if as_it_is else TokenRange.around(target_tokens))
    if target_tokens is None:
        raise PromptError("prompt_fit: packed needs prefill_tokens, the length of a prompt")
    if any(prompt.pictures for prompt in draw.source.prompts):
        raise PromptError("prompt_fit: packed joins texts, and there are pictures: use natural")
    return choose_packed(draw, target_tokens)


def choose_natural(draw: Draw, wanted: TokenRange, *, again: bool = True) -> PromptSet:
    """Return prompts whose lengths are in the range. Raises PromptError where none is.

    If they are too few they are used again, unless that isn't wanted.
    """
    found = _search(draw, wanted)
    if not found.fitting:
        raise PromptError(_none_fits(draw, wanted, found.lengths))
    if not again:
        draw = replace(draw, count=min(draw.count, len(found.fitting)))
    chosen = _as_set(draw, found.fitting, _length_note(draw, found))
    return replace(chosen, left_out={**chosen.left_out, **found.left_out})


def _length_note(draw: Draw, found: Search) -> tuple[str, ...]:
    """Tell what of a user's own file isn't sent; other sets are big, and say so in their docs."""
    if not found.left_out or not draw.source.own_file:
        return ()
    looked_at = len(found.fitting) + found.left_out.total()
    why = told(found.left_out)
    return (f"{draw.source.dataset}: of {looked_at:,} prompts looked at, left out: {why}",)


def choose_packed(draw: Draw, target_tokens: int) -> PromptSet:
    """Return prompts joined to the target length. Raises PromptError where none can be made."""
    goal = Goal(target_tokens, overhead_of(draw.counter))
    if goal.tokens <= goal.overhead:
        raise PromptError(
            f"prefill_tokens: {goal.tokens} leaves no room for a prompt: chat template and"
            f" system prompt alone take {goal.overhead} tokens"
        )
    made = pack_prompts(draw.source.prompts, draw.count, goal, draw.seed, draw.counter)
    if not made:
        raise PromptError(
            f"{draw.source.dataset}: its prompts can't be packed to {goal.tokens} tokens: the"
            " server refuses such a length, or no cut comes within 2 %: try another"
            " prefill_tokens"
        )
    return _as_set(draw, made, _repeated_parts_note(draw, made))


def _repeated_parts_note(draw: Draw, made: list[Prompt]) -> tuple[str, ...]:
    whole_set = sum(len(prompt.text) + len(BETWEEN) for prompt in draw.source.prompts)
    if all(len(prompt.text) < whole_set for prompt in made):
        return ()
    return (f"{draw.source.dataset}: the set is shorter than a prompt: parts repeat inside one",)


@dataclass(slots=True)
class Search:
    """What a search has found so far."""

    fitting: list[Prompt] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # of all that were counted
    left_out: Counter[str] = field(default_factory=Counter)  # by the reason


def _search(draw: Draw, wanted: TokenRange) -> Search:
    """Count prompts in seeded order, batch by batch, until enough of them fit."""
    found = Search()
    order = _possible(draw, wanted, overhead_of(draw.counter), found.left_out)
    while (missing := draw.count - len(found.fitting)) > 0:
        batch = list(itertools.islice(order, max(SMALLEST_BATCH, missing)))
        if not batch:
            break
        for prompt, tokens in zip(batch, draw.counter.count(batch), strict=True):
            if tokens is not None:
                found.lengths.append(tokens)
            if tokens in wanted:
                found.fitting.append(replace(prompt, tokens=tokens))
            else:
                found.left_out[wanted.why_not(tokens)] += 1
    return found


def _possible(
    draw: Draw, wanted: TokenRange, overhead: int, left_out: Counter[str]
) -> Iterator[Prompt]:
    """Yield prompts in seeded order; those whose number of bytes can't fit are only counted."""
    for index in permutation(len(draw.source.prompts), draw.seed):
        prompt = draw.source.prompts[index]
        length = len(prompt.text.encode())
        # Each further message has its own template around it, of unknown length, and each picture
        # tokens that no text shows.
        plain = len(prompt.messages) == 1 and not prompt.pictures
        if plain and length + overhead < wanted.low:
            left_out[wanted.why_not(0)] += 1
        elif length > wanted.high * MOST_BYTES_PER_TOKEN:
            left_out[wanted.why_not(wanted.high + 1)] += 1
        else:
            yield prompt


def overhead_of(counter: TokenCounter) -> int:
    """Return the tokens that template and system prompt add to a prompt."""
    (counted,) = counter.count([user_prompt("one token", "x")])
    return max(0, (counted or 1) - 1)


def _none_fits(draw: Draw, wanted: TokenRange, lengths: list[int]) -> str:
    by_bytes = sorted(draw.source.prompts, key=lambda p: len(p.text.encode()))
    ends = draw.counter.count([by_bytes[0], by_bytes[-1]])
    seen = sorted([*lengths, *(n for n in ends if n is not None)])
    lengths_seen = f"seen: {seen[0]} to {seen[-1]}" if seen else "the server refuses them all"
    low_to_high = f"{wanted.low} to {wanted.high} tokens"
    has = "can be sent" if wanted.any_length else f"has {low_to_high}"
    send_all = "" if wanted.any_length or not draw.source.own_file else SEND_ALL
    return (
        f"{draw.source.dataset}: none of its {len(draw.source.prompts)} prompts {has}"
        f" ({lengths_seen}; counted by {draw.counter.method}): {wanted.advice}{send_all}"
    )


def _pictures_note(draw: Draw, found: Sequence[Prompt]) -> tuple[str, ...]:
    if draw.counter.method == "server" or not any(prompt.pictures for prompt in found):
        return ()
    return ("pictures are in no count: what they take only a server's /tokenize knows",)


def _as_set(draw: Draw, found: list[Prompt], notes: tuple[str, ...] = ()) -> PromptSet:
    """Return as many prompts as asked for; if too few were found, they are used again."""
    again = (found[index] for index in endless_permutations(len(found), draw.seed))
    chosen = tuple(itertools.islice(itertools.chain(found, again), draw.count))
    uses = Counter(prompt.id for prompt in chosen)
    more = (*_pictures_note(draw, found), *_reuse_note(draw.source.dataset, uses), *notes)
    return set_of(draw.source, chosen, draw.counter, more, lambda prompt: prompt.id)


def _reuse_note(dataset: str, uses: Counter[str]) -> tuple[str, ...]:
    fewest, most = min(uses.values(), default=0), max(uses.values(), default=0)
    if most <= 1:
        return ()
    times = f"{most} times" if fewest == most else f"{fewest} or {most} times"
    return (
        f"{dataset}: {len(uses)} prompts fit and {uses.total()} were asked for:"
        f" each is used {times}",
    )
