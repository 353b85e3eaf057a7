"""A plan dealt to machines: who sends which streams and requests. Pure, and without a message.

Streams are dealt in turns, to each machine as many as its weight asks for; request i of a closed
loop belongs to the machine of stream i mod C, a play of a session likewise. So the load is exactly
C, a run can be repeated in what each machine sends, and a machine that is lost takes along its own
requests alone. The price: towards the end of a run by number some streams find nothing more to
send a little before others (docs/LOAD.md); by time nothing is lost. Of a load by the clock
requests are dealt, and so are the places of `max_in_flight`.

The warm-up is dealt by number too: it warms the server, not each machine, and is no longer than
the plan says.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Sequence

from ..errors import UsageError
from ..plan.dealt.own import Own
from ..plan.part import Part
from ..plan.plan import Plan


def turns(weights: Sequence[int], count: int) -> list[int]:
    """Return which machine has each of `count` turns: each as often as its weight, evenly spread.

    The next turn is of the machine that is furthest behind its share.
    """
    behind = [(1 / weight, machine, 1) for machine, weight in enumerate(weights)]
    heapq.heapify(behind)
    found: list[int] = []
    for _ in range(count):
        _, machine, had = behind[0]
        found.append(machine)
        heapq.heapreplace(behind, ((had + 1) / weights[machine], machine, had + 1))
    return found


def dealt(plan: Plan, names: Sequence[str], weights: Sequence[int]) -> list[Plan]:
    """Return what each machine sends of a plan. Raises UsageError where one would send nothing."""
    streams = [part.level.concurrency or 0 for part in plan.drawn]
    of_streams, begin = turns(weights, sum(streams)), 0
    parts: list[list[Part]] = [[] for _ in names]
    for part, count in zip(plan.drawn, streams, strict=True):
        owners = of_streams[begin : begin + count] if count else _of_requests(part, weights)
        begin += count
        whole = dataclasses.replace(part, known_uses=part.uses_before)
        for mine, own in zip(parts, _owns(owners, len(names)), strict=True):
            mine.append(dataclasses.replace(whole, own=own))
    _refuse_empty(plan, names, parts)
    return [
        dataclasses.replace(plan, drawn=tuple(mine), machine=name, rate=plan.request_rate)
        for name, mine in zip(names, parts, strict=True)
    ]


def _of_requests(part: Part, weights: Sequence[int]) -> list[int]:
    """Return which machine has each request of a round; of a cap's places no other has any.

    A machine without a place under the cap could send nothing that it was dealt.
    """
    a_round, cap = sum(weights) // math.gcd(*weights), part.scenario.max_in_flight
    return turns(weights, a_round if cap is None else min(a_round, cap))


def _owns(owners: Sequence[int], machines: int) -> list[Own]:
    """Return the places of each machine in a round."""
    places: list[list[int]] = [[] for _ in range(machines)]
    for place, owner in enumerate(owners):
        places[owner].append(place)
    return [Own(len(owners), tuple(mine)) for mine in places]


def _refuse_empty(plan: Plan, names: Sequence[str], parts: Sequence[Sequence[Part]]) -> None:
    for name, mine in zip(names, parts, strict=True):
        if not any(part.own.places for part in mine):
            caps = [part.level.concurrency or part.scenario.max_in_flight or 0 for part in mine]
            raise UsageError(
                f"{plan.scenario.name}: {sum(caps)} streams (or max_in_flight) can't come from "
                f"{len(names)} machines: {name} would send nothing; ask for fewer machines "
                "(--machines) or more streams"
            )
