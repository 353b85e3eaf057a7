"""Classes of users: which part of a run's load is whose. Pure.

Arrivals are drawn for the whole run, and each is then given to a class by its share: the mix comes
as one crowd, bursts and all, and the same arrivals with one class alone are a part of it. Streams
of a closed loop are divided once, the largest remainders first, each class at least one.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..prompts.order import derive_seed
from ..scenario.load import LoadLevel
from ..scenario.scenario import Scenario, ScenarioError
from .times import drawn_times, schedule_seed


@dataclass(frozen=True, slots=True)
class Flow:
    """What a class sends of a run: requests by the clock, or streams of its own."""

    name: str
    level: LoadLevel
    times_s: array[float]  # of its measured arrivals and its tail; none: streams
    measured: int  # arrivals
    lasts_s: float | None  # streams: how long they send


def scenarios_of(scenario: Scenario) -> tuple[Scenario, ...]:
    """Return the scenario, or that of each of its classes: no two draw the same prompts."""
    return tuple(
        scenario.of_class(name).model_copy(
            update={"seed": derive_seed(scenario.seed, f"class {name}")}
        )
        for name in scenario.by_class
    ) or (scenario,)


def flows_of(scenario: Scenario, level: LoadLevel, repeat: int) -> tuple[Flow, ...]:
    """Return what each class sends of a run, in the scenario's order.

    Raises ScenarioError where a class would send nothing.
    """
    classes = scenario.by_class
    own = {name: c.streams for name, c in classes.items() if c.streams is not None}
    shares = {name: c.share for name, c in classes.items() if c.share is not None}
    if level.request_rate is None:
        own |= divided(level.concurrency or 0, shares) if shares else {}
        shares = {}
    found, last_s = {}, scenario.duration_s
    if shares and level.request_rate is not None:
        measured, times_s = drawn_times(scenario, level.request_rate, repeat)
        order = drawn_classes(scenario, shares, len(times_s), repeat)
        last_s = times_s[measured - 1] if measured else 0.0
        found = {
            name: _arrivals(name, level.request_rate * share, measured, times_s, order)
            for name, share in shares.items()
        }
    for name, streams in own.items():
        found[name] = Flow(name, LoadLevel(concurrency=streams), array("d"), 0, last_s)
    return tuple(_sending(scenario, found[name]) for name in classes)


def _arrivals(
    name: str, rate: float, measured: int, times_s: Sequence[float], order: Sequence[str]
) -> Flow:
    mine = [place for place, owner in enumerate(order) if owner == name]
    count = sum(1 for place in mine if place < measured)
    times = array("d", (times_s[place] for place in mine))
    return Flow(name, LoadLevel(request_rate=rate), times, count, None)


def _sending(scenario: Scenario, flow: Flow) -> Flow:
    if not flow.measured and not flow.lasts_s:
        raise ScenarioError(
            f"scenario {scenario.name}: classes: {flow.name}: none of the run's requests falls to "
            "it; make the run longer"
        )
    return flow


def drawn_classes(
    scenario: Scenario, shares: Mapping[str, float], count: int, repeat: int
) -> list[str]:
    """Return the class of each arrival, by the seed; a longer draw begins with the shorter one."""
    uniform = random.Random(derive_seed(schedule_seed(scenario, repeat), "classes")).random
    names, ends = list(shares), [*accumulate(shares.values())]
    ends[-1] = math.inf  # shares are 1 together but for rounding
    return [
        next(name for name, end in zip(names, ends, strict=True) if drawn < end)
        for drawn in (uniform() for _ in range(count))
    ]


def divided(streams: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return the streams of each class: as many as its share, and at least one.

    By largest remainders; what a class lacks to one comes from the largest.
    """
    exact = {name: share * streams for name, share in shares.items()}
    found = {name: int(part) for name, part in exact.items()}
    by_rest = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in by_rest[: streams - sum(found.values())]:
        found[name] += 1
    while 0 in found.values():
        poorest = next(name for name, count in found.items() if count == 0)
        found[poorest] += 1
        found[max(found, key=lambda name: found[name])] -= 1
    return found
