"""Conversations as sessions: a chain of turns, with a person's or a tool's time between two."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence

from ...prompts.order import derive_seed
from ...scenario.nested.groups import Conversations
from ..share import NS_PER_S
from .script import Course, Plays, Script, Step

# Of the logarithm of a tool's time: with a median of 2 s 10 % take over 14 s and 1 % over 66 s.
SIGMA = 1.5


def conversation_plays(
    talk: Conversations, ids: Sequence[str], requests: int, longest_s: float, seed: int
) -> Plays:
    """Return the plays of so many turns in conversations of these names; the last may be short."""
    scripts = tuple(_scripts(talk, ids, requests, longest_s, seed))
    return Plays(scripts, array("I", range(len(scripts))), len(scripts), live=True)


def _scripts(
    talk: Conversations, ids: Sequence[str], requests: int, longest_s: float, seed: int
) -> Iterator[Script]:
    draw = random.Random(derive_seed(seed, "waits of tools"))
    same: dict[int, Course] = {}
    for number, name in enumerate(ids):
        turns = min(talk.turns, requests - number * talk.turns)
        course = same.get(turns)
        if course is None:
            course = Course(tuple(_step(talk, place, longest_s, draw) for place in range(turns)))
            if talk.tool_calls is None:
                same[turns] = course
        yield Script(name, course)


def _step(talk: Conversations, place: int, longest_s: float, draw: random.Random) -> Step:
    if place == 0:
        return Step()
    after, tools = (place - 1,), talk.tool_calls
    if tools is None or draw.random() >= tools.share:
        return Step(after, int(talk.think_time_s * NS_PER_S), "think", history=place - 1)
    took_s = draw.lognormvariate(math.log(tools.wait_s), SIGMA)
    wait_ns = int(min(took_s, longest_s) * NS_PER_S)
    cut_ns = int(max(0.0, took_s - longest_s) * NS_PER_S)
    return Step(after, wait_ns, "tool", history=place - 1, cut_ns=cut_ns)
