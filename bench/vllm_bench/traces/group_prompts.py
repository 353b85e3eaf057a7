"""Prompts in groups that begin alike: real text, exact to the token.

A prompt is its group's beginning and a part of its own, cut so that the whole is as long as asked:
the joined text is counted, since a token may reach over a seam. A blank begins the own part, which
tokenizers keep together with the next word, so that the beginning's tokens stay what they are; the
server's token ids of some prompts prove it.

The word after the blank is one token, and unlike that of the group's other prompts. A prompt that
is used again has another word there: of the same length, and new to the cache from there on.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..prompts.count import TokenCounter
from ..prompts.order import derive_seed
from ..prompts.pack import Goal, PromptSearch, cut, run_in_tries
from ..prompts.prompt import Prompt, PromptError, PromptSet, PromptSource, user_prompt
from ..prompts.source import set_of
from ..scenario.nested.groups import Prefix
from .groups import Crowd, commons, drawn_groups, group_sizes
from .possible import USUAL_BLOCK, Possible, once
from .prompts import Writer, measure

BLANK = " "
SLACK = 1.3  # how much longer than needed a text is, before it is cut; twice as much a try
WORDS_AT_ONCE, MOST_CANDIDATES = 128, 20_000
MOST_WORDS = 251  # a prime, as each number of them: then every step goes through all of them
SHORT = 4  # tokens: a word alone may be enough
PROVED = 8  # groups of which the token ids are compared
CANDIDATE = re.compile(r"(?<= )[a-z]{2,8}(?= )")

TokenIds = Callable[[Prompt], "Sequence[int] | None"]  # as the server says them


@dataclass(frozen=True, slots=True)
class Own:
    """Where a prompt's own part begins, in characters of its text, and with which word."""

    at: int
    word: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """The prompts of a part in groups, and what is known of their beginnings."""

    prompts: PromptSet  # in sending order
    unmeasured: tuple[Prompt, ...]  # in no group: they warm the server up
    primers: Sequence[Prompt]  # one of each group that is primed
    own: Sequence[Own]  # of each prompt in order
    words: tuple[str, ...]  # of one token each; none: prompts can't be told apart by one
    step: int  # from the word of a prompt's use to that of the next
    beginning: int  # tokens that a group's prompts begin with
    crowd: Crowd
    possible: Possible

    @property
    def facts(self) -> dict[str, object]:
        """The entry on the groups in the run's JSON, for one use of each prompt."""
        crowd, size = self.crowd, self.possible.block_size
        primed = sum(size > 0 for size in crowd.sizes) if crowd.primed else 0
        return {
            "groups": len(crowd.sizes),
            "tokens": self.beginning,
            "requests_in_groups": sum(crowd.sizes),
            "possible_share": sum(self.possible.first) / (crowd.requests * crowd.length),
            "working_set_tokens": len(crowd.sizes) * self.beginning,
            "head_tokens": crowd.head,
            "primed": primed,
            "primed_cached_tokens": max(0, primed - 1) * (crowd.head // size * size),
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """How many prompts are wanted, of which length, in which groups."""

    prefix: Prefix
    tokens: int  # of each prompt
    count: int
    unmeasured: int
    seed: int
    block: int | None  # the server's; None: it doesn't say
    salted: bool  # whether uses can be told apart by salts as well


def grouped_prompts(
    wish: Wish, source: PromptSource, counter: TokenCounter, token_ids: TokenIds | None
) -> Grouped:
    """Return prompts of exactly the wanted length, in groups. Raises PromptError."""
    overhead, chars_per_token = measure(Writer(source.prompts, wish.seed), counter)
    head, tail = _template(overhead, token_ids)
    sizes = group_sizes(wish.prefix, wish.count)
    block = wish.block or USUAL_BLOCK
    crowd = Crowd(wish.count, sizes, wish.tokens, head, block, wish.prefix.primed, tail)
    beginning = crowd.beginning(wish.prefix)
    words = _one_token_words(source.prompts, counter)
    made = _Maker(
        Writer(source.prompts, wish.seed, chars_per_token), counter, words, overhead, tail
    )
    groups = drawn_groups(sizes, wish.count, derive_seed(wish.seed, "groups"))
    begins = made.beginnings(wish.prefix.groups, beginning)
    whole = made.wholes(_members(wish, groups), begins, beginning, wish.tokens)
    prompts, own = zip(*whole[: wish.count], strict=True)
    _prove(prompts, groups, beginning, token_ids)
    more = [prompt for prompt, _ in whole[wish.count :]]
    return Grouped(
        prompts=set_of(source, prompts, counter, _notes(wish, crowd, beginning), lambda p: p.id),
        unmeasured=tuple(more[: wish.unmeasured]),
        primers=tuple(more[wish.unmeasured :]),
        own=own,
        words=words,
        step=step_of(sizes, len(words)),
        beginning=beginning,
        crowd=crowd,
        possible=_Drawn(groups, own, crowd, beginning, len(words)).possible(wish),
    )


def _members(wish: Wish, groups: Sequence[int | None]) -> list[int | None]:
    """Return the groups of all prompts: the measured, those of the warm-up, those that prime."""
    primed = range(wish.prefix.groups) if wish.prefix.primed else ()
    used = set(groups)
    return [*groups, *[None] * wish.unmeasured, *(g for g in primed if g in used)]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What decides how much a cache can have of prompts in groups, in sending order."""

    groups: Sequence[int | None]
    own: Sequence[Own]
    crowd: Crowd
    beginning: int
    words: int

    def possible(self, wish: Wish) -> Possible:
        """Return the hits of each request: a use that has a salt of its own begins anew."""
        crowd, lengths = self.crowd, [wish.tokens] * len(self.groups)
        again = [crowd.head if group is None else self.beginning for group in self.groups]
        first, *later = list(self._turns())

        def hits(alike: Sequence[int], more: Sequence[int]) -> Possible:
            return once(map(operator.add, alike, more), lengths, wish.block)

        def start(primed: bool) -> Possible:
            return hits(commons(self.groups, self.beginning, crowd.head, primed=primed), first)

        renewed = start(primed=False) if wish.salted else once(lengths, lengths, wish.block)
        return replace(
            start(primed=crowd.primed),
            again=tuple(hits(again, more).first for more in later),
            renewed=renewed.first,
            cycle=max(1, self.words),
        )

    def _turns(self) -> Iterator[list[int]]:
        """Yield, for each use of the prompts, how many tokens more some begin with as one before.

        That is the word where their own part begins, where their group has had it. It is of matter
        where a beginning lacks but that token to a whole block.
        """
        sizes, words = self.crowd.sizes, self.words
        if (self.beginning + 1) % self.crowd.block or not words:
            nothing = [0] * len(self.groups)
            yield from (nothing, nothing)
            return
        step, had = step_of(sizes, words), set[tuple[int | None, int]]()
        had.update((g, n % words) for g, n in enumerate(sizes) if n and self.crowd.primed)
        for use in range(words):
            more = []
            for group, one in zip(self.groups, self.own, strict=True):
                key = group, (one.word + use * step) % words
                more.append(int(group is not None and key in had))
                if group is not None:
                    had.add(key)
            yield more
            if use and len(had) == words * sum(size > 0 for size in sizes):
                yield [int(group is not None) for group in self.groups]
                return


def step_of(sizes: Sequence[int], words: int) -> int:
    """Return the step between the words of a prompt's uses: past those of its whole group."""
    most = max(sizes) + 1
    return most if 2 * most <= words else 1


def _template(overhead: int, token_ids: TokenIds | None) -> tuple[int, int]:
    """Return how many tokens stand before and behind a prompt's text in each request.

    Without the server's ids all are taken to stand before it.
    """
    one, other = (token_ids(user_prompt("head", t)) if token_ids else None for t in "xy")
    if one is None or other is None:
        return overhead, 0
    head = _alike(one, other)
    tail = min(_alike(one[::-1], other[::-1]), max(0, overhead - head))
    return head, tail


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two prompts begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _one_token_words(prompts: Sequence[Prompt], counter: TokenCounter) -> tuple[str, ...]:
    """Return words that are one token each after a blank, a prime number of them; or none."""
    (alone,) = counter.count([user_prompt("word", "x")])
    texts = itertools.chain.from_iterable(CANDIDATE.findall(p.text) for p in prompts)
    candidates = iter(dict.fromkeys(itertools.islice(texts, MOST_CANDIDATES)))
    words = list[str]()
    while len(words) < MOST_WORDS and (some := list(itertools.islice(candidates, WORDS_AT_ONCE))):
        counts = counter.count([user_prompt("word", f"x{BLANK}{word}") for word in some])
        words += [w for w, n in zip(some, counts, strict=True) if n and n - (alone or 0) == 1]
    return tuple(words[: _prime(min(MOST_WORDS, len(words)))])


def _prime(most: int) -> int:
    """Return the largest prime up to a number; 0: there is none."""
    primes = (n for n in range(most, 1, -1) if all(n % d for d in range(2, int(n**0.5) + 1)))
    return next(primes, 0)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes texts of an exact number of tokens; what it makes depends on names alone."""

    writer: Writer
    counter: TokenCounter
    words: Sequence[str]
    overhead: int
    tail: int  # tokens of the template behind a text

    def beginnings(self, groups: int, tokens: int) -> list[str]:
        """Return the beginning of each group: with what stands behind it, so many tokens more."""
        goal = Goal(tokens + self.tail, self.overhead, within=0)
        found = self._all(
            groups, lambda g, attempt: self._cut(self._word(g), f"group {g}", goal, attempt)
        )
        texts = [prompt.text for prompt in found]
        if len(set(texts)) < groups:
            raise PromptError(
                f"prefix: {groups} groups have only {len(set(texts))} different beginnings of"
                f" {tokens} tokens: take longer ones, or fewer groups"
            )
        return texts

    def wholes(
        self, groups: Sequence[int | None], begins: Sequence[str], beginning: int, tokens: int
    ) -> list[tuple[Prompt, Own]]:
        """Return a prompt for each of these groups, and where its own part begins."""
        goal, lone = Goal(tokens, beginning + self.tail, within=0), Goal(tokens, self.overhead, 0)
        # Prompts in no group begin with a word that no group begins with.
        leads = [
            self._word(len(begins) + place) if group is None else begins[group]
            for place, group in _numbered(groups)
        ]
        words = [place % max(1, len(self.words)) for place, _ in _numbered(groups)]

        def search(number: int, attempt: int) -> PromptSearch:
            before = BLANK.join(filter(None, (leads[number], self._word(words[number]))))
            length = lone if groups[number] is None else goal
            return self._cut(before, _name(groups[number], number), length, attempt)

        found = self._all(len(groups), search)
        own = [Own(len(lead), word) for lead, word in zip(leads, words, strict=True)]
        return list(zip(found, own, strict=True))

    def _word(self, number: int) -> str:
        return self.words[number % len(self.words)] if self.words else ""

    def _cut(self, before: str, name: str, goal: Goal, attempt: int) -> PromptSearch:
        """Search where a text of this name ends that goes on behind `before`."""
        attempts = f"{name} try {attempt}" if attempt else name
        missing = (goal.tokens - goal.overhead) * self.writer.chars_per_token
        written = self.writer.written(attempts, missing * SLACK * (1 << attempt) + 16)
        draft = before + BLANK * bool(before) + written
        if before and goal.tokens - goal.overhead <= SHORT and goal.met_by((yield before)):
            return user_prompt(name, before)
        tokens = goal.overhead + (len(draft) - len(before)) / self.writer.chars_per_token
        found = yield from cut(draft, tokens, goal, len(before))
        return None if found is None else user_prompt(name, found)

    def _all(self, count: int, search: Callable[[int, int], PromptSearch]) -> list[Prompt]:
        """Return what each search finds; a text that can't be cut to its goal gives way."""
        found = run_in_tries(range(count), search, self.counter)
        if missing := count - len(found):
            raise PromptError(
                f"prefix: {missing} of {count} texts can't be cut to their exact number of"
                " tokens: the server refuses such a length, or counts otherwise each time: try"
                " another prefill_tokens"
            )
        return [found[number] for number in range(count)]


def _numbered(groups: Sequence[int | None]) -> Iterator[tuple[int, int | None]]:
    """Yield each group with the number of its members before, of this order."""
    before: dict[int | None, int] = {}
    for group in groups:
        place = before[group] = before.get(group, -1) + 1
        yield place, group


def _name(group: int | None, number: int) -> str:
    return f"own {number}" if group is None else f"group {group} own {number}"


def _prove(
    prompts: Sequence[Prompt],
    groups: Sequence[int | None],
    beginning: int,
    token_ids: TokenIds | None,
) -> None:
    """Compare the server's tokens of two prompts of some groups. Raises PromptError."""
    if token_ids is None:
        return
    firsts: dict[int, list[Prompt]] = {}
    for prompt, group in zip(prompts, groups, strict=True):
        if group is not None:
            firsts.setdefault(group, []).append(prompt)
    pairs = (members[:2] for members in firsts.values() if len(members) > 1)
    for pair in itertools.islice(pairs, PROVED):
        one, other = map(token_ids, pair)
        alike = _alike(one, other) if one and other else beginning
        if alike < beginning:
            raise PromptError(
                f"prefix: two prompts of a group begin with {alike} equal tokens, not with"
                f" {beginning}: this server's tokenizer joins what is cut: set prefix.tokens to"
                f" {alike} or less"
            )


def _notes(wish: Wish, crowd: Crowd, beginning: int) -> Iterator[str]:
    """Yield what groups people will get."""
    yield (
        f"prefix: {len(crowd.sizes)} groups begin with {beginning} of {wish.tokens} tokens each:"
        f" an endless cache has {100 * crowd.possible(beginning):.1f} % of the prompt tokens"
    )
    if wish.block is None:
        yield f"prefix: the server doesn't say its block size: {USUAL_BLOCK} tokens are assumed"
