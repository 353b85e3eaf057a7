"""Groups of requests that begin alike: how many are in each, and what of them a cache can have.

Of N requests of L tokens those of a group begin with the same P tokens, a chat template's head and
a system prompt included, which are H tokens that all begin with. With B the tokens of a block and
[x] = x rounded down to whole blocks, an endless cache has

    possible = (F [min(P, L - 1)] + R [min(H, L - 1)]) / (N L)

where F are the requests whose group was sent before them (n - 1 of each group of n; with a group
sent before the start all n), and R the others but the very first. Solved for P it is the beginning
that a wanted hit rate needs; rounded down to whole blocks it misses that by at most B / L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..prompts.order import permutation
from ..prompts.prompt import PromptError
from ..scenario.nested.groups import Prefix
from .possible import found


class GroupsError(PromptError):
    """Groups that can't be had of such requests; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The requests of a part: how many, how long, in which groups."""

    requests: int
    sizes: tuple[int, ...]  # of each group
    length: int  # of each whole prompt, in tokens
    head: int  # tokens that all prompts begin with
    block: int
    primed: bool  # one request of each group is sent before the start
    tail: int = 0  # tokens of the chat template behind a prompt's text

    @property
    def longest(self) -> int:
        """Tokens that a beginning can have: one is left for each prompt's own part."""
        return self.length - self.tail - 1

    @property
    def hits(self) -> int:
        """Requests whose group was sent before them: F."""
        return sum(size - (not self.primed) for size in self.sizes if size)

    @property
    def others(self) -> int:
        """Requests that find no more than all have in common: R."""
        return self.requests - self.hits - (not self.primed)

    def possible(self, beginning: int) -> float:
        """Return the share of the prompt tokens that an endless cache has."""
        with_group = self.hits * found(beginning, self.length, self.block)
        return (with_group + self.others * self._found_of_head) / self._tokens

    def wanted(self, beginning: int) -> float:
        """Return the same as if blocks were single tokens: what the beginning is meant for."""
        return (self.hits * beginning + self.others * self._found_of_head) / self._tokens

    def beginning(self, prefix: Prefix) -> int:
        """Return the tokens that a group begins with, P. Raises GroupsError where none will do."""
        if prefix.tokens is not None:
            return self._with_room(prefix.tokens)
        wanted = prefix.hit_rate or 0.0
        missing = wanted * self._tokens - self.others * self._found_of_head
        # Without the last digits, which are a double's: 96.00000000001 is 96.
        exact = round(missing / self.hits, 6) if self.hits else float("inf")
        least = (self.head // self.block + 1) * self.block
        if exact >= self.longest + 1:
            raise GroupsError(self._out_of_reach(wanted, "at most", self.longest))
        whole = int(exact // self.block * self.block)
        if whole < least:
            raise GroupsError(self._out_of_reach(wanted, "at least", least))
        return whole

    def _with_room(self, tokens: int) -> int:
        if tokens <= self.head:
            raise GroupsError(
                f"prefix.tokens: {tokens} leaves no room for a group's own text: chat template and"
                f" system prompt alone begin with {self.head} tokens"
            )
        if tokens > self.longest:
            raise GroupsError(
                f"prefix.tokens: {tokens} leaves no room for a part of its own in a prompt of"
                f" {self.length} tokens, the last {self.tail} of which are the chat template's:"
                f" at most {self.longest}"
            )
        return tokens

    def _out_of_reach(self, wanted: float, bound: str, beginning: int) -> str:
        if not self.hits or found(beginning, self.length, self.block) <= self.head:
            return (
                f"prefix.hit_rate: {wanted:g} can't be had: {self.requests} requests of"
                f" {self.length} tokens in {len(self.sizes)} groups find nothing in blocks of"
                f" {self.block}: take more requests, longer prompts or fewer groups"
            )
        return (
            f"prefix.hit_rate: {wanted:g} can't be had: {self.requests} requests of"
            f" {self.length} tokens, {sum(self.sizes)} of them in {len(self.sizes)} groups, find"
            f" {bound} {self.possible(beginning):.4f} in blocks of {self.block}"
        )

    @property
    def _tokens(self) -> int:
        return self.requests * self.length

    @property
    def _found_of_head(self) -> int:
        return found(self.head, self.length, self.block)


def group_sizes(prefix: Prefix, requests: int) -> tuple[int, ...]:
    """Return how many of so many requests each group has, by largest remainders."""
    weights = [1 / (group + 1) ** prefix.zipf for group in range(prefix.groups)]
    mine = round(prefix.share * requests)
    exact = [mine * weight / sum(weights) for weight in weights]
    sizes = [int(part) for part in exact]
    by_rest = sorted(range(prefix.groups), key=lambda group: sizes[group] - exact[group])
    for group in by_rest[: mine - sum(sizes)]:
        sizes[group] += 1
    return tuple(sizes)


def drawn_groups(sizes: Sequence[int], requests: int, seed: int) -> list[int | None]:
    """Return the group of each request in sending order, by the seed; None: in none."""
    members: list[int | None] = [g for g, size in enumerate(sizes) for _ in range(size)]
    members += [None] * (requests - len(members))
    return [members[place] for place in permutation(requests, seed)]


def commons(groups: Sequence[int | None], beginning: int, head: int, *, primed: bool) -> list[int]:
    """Return how many tokens of each request an earlier one began with, in their order."""
    seen: set[int | None] = set()
    found_before = []
    for group in groups:
        known = group is not None and (primed or group in seen)
        found_before.append(beginning if known else head if seen or primed else 0)
        seen.add(group)
    return found_before
