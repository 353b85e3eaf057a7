"""Prompts, data sets, and the set of prompts of a run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import BenchError

KEPT = 10_000  # contents at once while a checksum is made
CountedBy = Literal["server", "tokenizer", "estimate", "nobody"]


class PromptError(BenchError):
    """Prompts that can't be loaded or chosen; the text is one line for people."""


class Image(NamedTuple):
    """A picture in a prompt: a data URL, once it is read."""

    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str  # its text
    parts: tuple[str | Image, ...] = ()  # texts and pictures in their order; none: text alone

    @property
    def sent(self) -> str | list[dict[str, Any]]:
        """The content as a chat request has it."""
        return self.content if not self.parts else [_chat_part(part) for part in self.parts]


def _chat_part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "text", "text": part}


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one request, without the scenario's system prompt."""

    id: str  # unique in its set: dolly:123; packed: first part and how many more, dolly:123+14
    messages: tuple[Message, ...]  # what a chat request sends
    tokens: int | None = None  # None: not counted yet

    @property
    def pictures(self) -> int:
        """How many pictures are in it."""
        return sum(isinstance(part, Image) for m in self.messages for part in m.parts)

    @property
    def text(self) -> str:
        """What a completions request sends."""
        return "\n\n".join(m.content for m in self.messages)

    @property
    def content_sha256(self) -> str:
        """Return a hash of the content: roles and texts, without id and count."""
        return hashlib.sha256(_content(self)).hexdigest()


@dataclass(frozen=True, slots=True)
class PromptSource:
    """A complete data set, and notes for people on how it was read."""

    dataset: str
    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # rows of it, by the reason

    @property
    def own_file(self) -> bool:
        """Whether it is the user's own file, which is sent as it is."""
        return self.dataset.startswith("file:")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of a run, as many as were asked for, in sending order."""

    dataset: str
    prompts: Sequence[Prompt]
    sha256: str  # over the content, in order
    distinct: int
    max_uses: int  # how often the most used prompt is in `prompts`
    source_count: int  # prompts in the data set
    counted_by: CountedBy
    notes: tuple[str, ...]  # for people: reuse, licence, estimated counts
    left_out: Mapping[str, int] = field(default_factory=dict)  # by the reason, its length say

    @property
    def facts(self) -> dict[str, Any]:
        """The entry on the prompts in the run's JSON."""
        names = ("dataset", "sha256", "distinct", "max_uses", "source_count", "counted_by")
        return {**{name: getattr(self, name) for name in names}, "left_out": dict(self.left_out)}


def together(sets: Sequence[PromptSet]) -> dict[str, Any]:
    """Return the facts of several sets, as of one."""
    facts = [one.facts for one in sets]
    counters = {one.counted_by for one in sets}
    return {
        "dataset": ", ".join(dict.fromkeys(one.dataset for one in sets)),
        "sha256": hashlib.sha256(" ".join(one.sha256 for one in sets).encode()).hexdigest(),
        **{name: sum(one[name] for one in facts) for name in ("distinct", "source_count")},
        "max_uses": max(one.max_uses for one in sets),
        "counted_by": counters.pop() if len(counters) == 1 else "several",
        "left_out": dict(sum((Counter(one.left_out) for one in sets), Counter[str]())),
    }


def user_prompt(prompt_id: str, text: str) -> Prompt:
    """Return a prompt of one user message."""
    return Prompt(prompt_id, (Message("user", text),))


def checksum(prompts: Iterable[Prompt]) -> str:
    """Return the sha256 over the prompts' content in order; ids and counts don't matter."""
    total = hashlib.sha256()
    known: dict[int, tuple[Prompt, bytes]] = {}  # a small set is used again and again
    for prompt in prompts:
        if id(prompt) not in known:
            if len(known) >= KEPT:
                known.clear()
            known[id(prompt)] = prompt, _content(prompt) + b"\n"
        total.update(known[id(prompt)][1])
    return total.hexdigest()


def _content(prompt: Prompt) -> bytes:
    turns = [[m.role, m.sent] for m in prompt.messages]
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode()


def without_repeats(
    dataset: str, prompts: Iterable[Prompt], without: Mapping[str, int] | None = None
) -> PromptSource:
    """Return the prompts without empty and repeated ones, and a note on how many were left out.

    `without` are rows that were left out before, by the reason. Raises PromptError if nothing is
    left.
    """
    kept: dict[str, Prompt] = {}
    left_out = Counter(without or {})
    for prompt in prompts:
        if not any(m.content.strip() or m.parts for m in prompt.messages if m.role == "user"):
            left_out["empty"] += 1
        elif prompt.content_sha256 in kept:
            left_out["repeated"] += 1
        else:
            kept[prompt.content_sha256] = prompt
    left_out = +left_out  # without what is 0
    why = told(left_out)
    if not kept:
        raise PromptError(f"{dataset}: no prompts{': ' + why if why else ''}")
    notes = (f"{dataset}: rows left out: {why}",) if why else ()
    return PromptSource(dataset, tuple(kept.values()), notes, dict(left_out))


def told(left_out: Mapping[str, int]) -> str:
    """Return how many were left out, and why: `3 empty, 1 repeated`."""
    return ", ".join(f"{number:,} {why}" for why, number in left_out.items())
