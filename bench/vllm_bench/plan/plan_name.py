"""How a plan is called: a hash of what it measures, and the name of its run's files."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from ..scenario.load_level import LoadLevel
from ..scenario.scenario import Scenario
from .arrivals import schedule_sha256
from .material import Part
from .request import body_fields


def plan_sha256(scenario: Scenario, part: Part) -> str:
    """Name what a run measures: every request's JSON, in order, and when it goes.

    The run's own name is no part of it: equal seeds and settings give an equal plan.
    """
    talk = scenario.conversations.model_dump() if scenario.conversations else None
    said = {
        "body": body_fields(scenario, None, scenario.max_new_tokens),
        "system_prompt": scenario.system_prompt,
        "endpoint": scenario.endpoint,
        "cache": scenario.cache,
        "conversations": talk,
        "prompts": part.material.prompts.sha256,
        "output_tokens": part.material.output_tokens,
        "requests": part.timetable.measured,
        "level": part.level,
        "max_in_flight": scenario.max_in_flight,
        "schedule": schedule_sha256(part.timetable.measured_s),
    }
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def plan_facts(scenario: Scenario, part: Part) -> dict[str, Any]:
    """Return what the run's JSON says of its plan."""
    return {"sha256": plan_sha256(scenario, part), **part.timetable.facts}


def run_id_for(scenario: Scenario, level: LoadLevel, time_utc: str) -> str:
    """Return `<scenario>-cc<N>-pref<P>-max<M>-<time>`; a name for files, never parsed back.

    An open loop has `rate<R>` or `trace-x<speed>` in the place of `cc<N>`.
    """
    prefill = scenario.prefill_tokens or "any"
    return f"{scenario.name}-{level.label}-pref{prefill}-max{scenario.max_new_tokens}-{time_utc}"
