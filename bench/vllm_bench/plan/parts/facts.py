"""The entry on the plan in a run's JSON. Pure."""

from __future__ import annotations

from typing import Any

from ..plan import Plan
from ..times import schedule_facts


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Return what the JSON says of a plan: of its only part, or of those of its classes."""
    first, only = plan.drawn[0], len(plan.drawn) == 1
    # A class that is sent alone has a schedule of its own.
    asked = first.scenario if plan.alone else plan.scenario
    found = {
        "sha256": plan.sha256,
        **schedule_facts(asked, plan.level, plan.measured_s),
        "start": plan.start,
        "prompts": _pool(plan),
        "trace_shared_share": first.trace_shared_share,
        "prefix": first.prefix_facts if only else None,
        "classes": {part.name: part.class_facts for part in plan.drawn if part.name},
        "alone": plan.alone,
        **(first.session_facts if only else {}),
        "quality": _questions(plan),
    }
    return {key: value for key, value in found.items() if value not in (None, {})}


def _questions(plan: Plan) -> dict[str, Any] | None:
    """Return which pass over which questions it is; None: its prompts are no questions."""
    quality = plan.scenario.quality
    if quality is None or plan.asked is None:
        return None
    return {"pass": plan.asked, "set": quality.set, "questions": quality.questions}


def _pool(plan: Plan) -> int | None:
    """Return how many prompts a closed loop that goes by time uses again and again."""
    by_time = [part for part in plan.drawn if part.duration_s is not None]
    return sum(len(part.prompts.prompts) for part in by_time) or None
