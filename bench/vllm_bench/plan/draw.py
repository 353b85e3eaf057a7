"""A scenario's runs, drawn before the first of them starts: levels, repeats, classes, passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..scenario.load import LoadLevel, levels_of
from ..scenario.load_keys import ARRIVAL_KEYS
from ..scenario.scenario import Scenario
from .classes import flows_of
from .drawing.part import Material, PartDraw
from .part import Part
from .plan import Asked, Plan


def plans_of(
    scenario: Scenario, materials: Sequence[Material], *, each_alone: bool = False
) -> list[Plan]:
    """Return a scenario's runs in their order: all levels once, then all of them again.

    `materials` has one of the scenario itself, or one of each class. Repeats that run back to back
    would share a slow minute of the machine, and look too similar. With `each_alone` each run of
    classes is followed by one of each class without the others, as it is in the mix.
    Raises ScenarioError, PromptError.
    """
    draws = [PartDraw(**vars(material)) for material in materials]
    found: list[Plan] = []
    for repeat in range(1, scenario.repeats + 1):
        for level in levels_of(scenario):
            asked: Asked | None = "load" if scenario.quality else None
            parts = _parts(scenario, draws, level, repeat)
            plan = Plan(scenario, level, repeat, parts, asked=asked)
            several = len(plan.drawn) > 1  # the only class is alone in the mix
            found += [plan, *(_alone(plan, part) for part in plan.drawn if each_alone and several)]
    return _with_passes_alone(scenario, materials[0], found) if scenario.quality else found


def _with_passes_alone(scenario: Scenario, material: Material, found: list[Plan]) -> list[Plan]:
    """Return the runs of questions, after one that asks them one at a time; perhaps again, last."""

    def one_at_a_time(asked: Asked) -> Plan:
        alone, level = _one_at_a_time(scenario, asked), LoadLevel(concurrency=1)
        draw = PartDraw(**{**vars(material), "scenario": alone})
        return Plan(alone, level, 1, (draw.part(level, 1),), asked=asked)

    again = [one_at_a_time("again")] if scenario.quality and scenario.quality.again else []
    return [one_at_a_time("alone"), *found, *again]


def _one_at_a_time(scenario: Scenario, asked: Asked) -> Scenario:
    """Return the scenario of questions as one stream asks them, the pass in its label.

    Objectives are on the levels: nobody asks for a rate of one stream.
    """
    given = scenario.model_dump(exclude_unset=True)
    gone = (*ARRIVAL_KEYS, "start", "repeats", "slo", "slo_tiers")
    given = {key: value for key, value in given.items() if key not in gone}
    alone = Scenario.model_validate({**given, "concurrencies": [1]})
    label = "-".join(filter(None, (scenario.label, f"quality-{asked}")))
    return alone.model_copy(update={"label": label})


def _parts(
    scenario: Scenario, draws: Sequence[PartDraw], level: LoadLevel, repeat: int
) -> tuple[Part, ...]:
    """Return the parts of a run: one, or one of each class."""
    if not scenario.by_class:
        return (draws[0].part(level, repeat),)
    flows = flows_of(scenario, level, repeat)
    parts = zip(draws, flows, strict=True)
    return tuple(
        replace(draw.part(flow.level, repeat, flow), name=flow.name, place=place, of=len(flows))
        for place, (draw, flow) in enumerate(parts)
    )


def _alone(plan: Plan, part: Part) -> Plan:
    """Return the run of one class of a plan, which sends what it sends in the mix.

    Its level is the class's own: that many streams, or its share of the rate.
    """
    label = "-".join(filter(None, (plan.scenario.label, f"alone-{part.name}")))
    scenario = plan.scenario.model_copy(update={"label": label})
    return replace(plan, scenario=scenario, level=part.level, drawn=(part,), alone=part.name)
