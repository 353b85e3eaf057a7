"""A plan dealt to machines: who sends which streams and requests, without a message.

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
from collections import Counter
from collections.abc import Sequence

from ..plan.dealt.own import Own
from ..plan.dealt.trimmed import trimmed
from ..plan.part import Part
from ..plan.plan import Plan


def turns(weights: Sequence[int], count: int) -> list[int]:
    """Return which machine has each of `count` turns: each as often as its weight, evenly spread.

    The next turn is of the machine that is furthest behind its portion; where the turns are enough,
    each has one.
    """
    behind = [(1 / weight, machine, 1) for machine, weight in enumerate(weights)]
    heapq.heapify(behind)
    found: list[int] = []
    for _ in range(count):
        _, machine, had = behind[0]
        found.append(machine)
        heapq.heapreplace(behind, ((had + 1) / weights[machine], machine, had + 1))
    if count >= len(weights):
        for machine in set(range(len(weights))) - set(found):
            (most, _), *_ = Counter(found).most_common(1)
            found[count - 1 - found[::-1].index(most)] = machine
    return found


def dealt(plan: Plan, names: Sequence[str], weights: Sequence[int]) -> list[Plan]:
    """Return what each machine sends of a plan: nothing, where streams are fewer than machines."""
    streams = [part.level.concurrency or 0 for part in plan.drawn]
    of_streams, begin = turns(weights, sum(streams)), 0
    parts: list[list[Part]] = [[] for _ in names]
    for part, count in zip(plan.drawn, streams, strict=True):
        owners = of_streams[begin : begin + count] if count else _of_requests(part, weights)
        begin += count
        whole = dataclasses.replace(part, known_uses=part.uses_before)
        for mine, own in zip(parts, _owns(owners, len(names)), strict=True):
            mine.append(dataclasses.replace(whole, own=own))
    return [
        dataclasses.replace(plan, drawn=tuple(mine), machine=name, rate=plan.request_rate)
        for name, mine in zip(names, parts, strict=True)
    ]


def as_told(plan: Plan) -> Plan:
    """Return a machine's plan as it travels: without what others send, with all that it needs.

    Raises OSError where the file of the server's authority can't be read.
    """
    there = (_without_files(part) for part in trimmed(plan).drawn)
    return dataclasses.replace(plan, drawn=tuple(there))


def _without_files(part: Part) -> Part:
    tls = part.target.tls
    if tls is None:
        return part
    return dataclasses.replace(part, target=dataclasses.replace(part.target, tls=tls.carried()))


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
