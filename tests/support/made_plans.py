"""Plans made by hand: prompts and lengths without a data set or a server."""

from __future__ import annotations

from array import array
from typing import Any

from vllm_bench.plan.part import Part
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.request import make_target
from vllm_bench.plan.sessions.conversations import conversation_plays
from vllm_bench.plan.sessions.script import Plays
from vllm_bench.prompts.prompt import PromptSet, checksum, user_prompt
from vllm_bench.scenario.load import levels_of
from vllm_bench.scenario.scenario import Scenario

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


def made_plays(made: Scenario, ids: list[str], count: int) -> Plays | None:
    """Return the plays of a scenario's conversations, of `count` turns together."""
    talk = made.conversations
    return conversation_plays(talk, ids, count, made.longest_gap_s, made.seed) if talk else None


def made_part(
    count: int,
    warmups: int = 0,
    api_key: str | None = None,
    times_s: array[float] | None = None,
    **settings: Any,
) -> Part:
    """Return the only part of a plan of a scenario's first level, of `count` measured requests."""
    made = scenario(**settings)
    turns = made.conversations.turns if made.conversations else 1
    part = Part(
        made,
        levels_of(made)[0],
        1,
        make_target(made, api_key),
        made_prompts(count),
        made_prompts(warmups, first=1000).prompts,
        array("d") if times_s is None else times_s,
        plays=made_plays(made, [f"c{i}" for i in range(-(-count // turns))], count),
    )
    return plan_of(part).parts[0]


def plan_of(part: Part, time_utc: str = "TIME") -> Plan:
    """Return the plan of a run that has this part alone."""
    return Plan(part.scenario, part.level, part.repeat, (part,), time_utc=time_utc)


def made_plan(count: int, warmups: int = 0, time_utc: str = "TIME", **settings: Any) -> Plan:
    """Return the plan of a scenario's first level with `count` measured requests."""
    return plan_of(made_part(count, warmups, **settings), time_utc)
