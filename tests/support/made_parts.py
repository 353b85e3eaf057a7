"""Runs to be, made by hand: prompts, times and lengths without a data set or a server."""

from __future__ import annotations

from typing import Any

from vllm_bench.plan.material import Material, Part
from vllm_bench.plan.timetable import timetable_of
from vllm_bench.prompts.prompt import PromptSet, checksum, user_prompt
from vllm_bench.scenario.load import LoadLevel, levels_of

from tests.plan.test_request import scenario


def made_prompts(count: int, first: int = 0) -> PromptSet:
    """Return prompts p0, p1, … of different texts."""
    prompts = tuple(user_prompt(f"p{i}", f"Question {i}?") for i in range(first, first + count))
    return PromptSet(
        dataset="made",
        prompts=prompts,
        sha256=checksum(prompts),
        distinct=count,
        max_uses=1,
        source_count=count,
        counted_by="nobody",
        notes=(),
    )


def made_part(count: int, warmups: int = 0, repeat: int = 1, **settings: Any) -> Part:
    """Return a scenario's first level with `count` measured requests."""
    made = scenario(**settings)
    level: LoadLevel = levels_of(made)[0]
    turns = made.conversations.turns if made.conversations else 1
    material = Material(
        made_prompts(count),
        made_prompts(warmups, first=1000).prompts,
        conversation_ids=tuple(f"c{i}" for i in range(-(-count // turns))),
    )
    return Part(level, repeat, timetable_of(made, level, repeat), material)
