"""A run's JSON as one of its classes of users has it: its own settings, load and plan.

What is about the run as a whole (the server's counters, samplers, the client's health, requests
without rows) is in the run's JSON alone. A run of one class without the others is that class's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .request_record import CLASS_NAME
from .row import Rows
from .run_info import RunInfo

RATES = ("output_tokens_per_s", "requests_per_s")  # objectives of all users together


def class_names(rows: Rows, info: RunInfo | None) -> tuple[str, ...]:
    """Return a run's classes in their order; none: all its users are alike, or it is of one."""
    plan = info.plan if info else {}
    if plan.get("alone"):
        return ()
    planned = [name for name in plan.get("classes") or {} if CLASS_NAME.fullmatch(name)]
    seen = {name for name in rows.columns.get("class", ()) if name is not None}
    return tuple(dict.fromkeys([*planned, *sorted(seen)]))


def place_of(info: RunInfo | None, name: str) -> tuple[int, int]:
    """Return a class's place among the classes that a run's lanes are numbered for, of how many."""
    every = list((info.scenario.get("classes") or {}) if info else {})
    return (every.index(name), len(every)) if name in every else (0, 1)


def info_of_class(info: RunInfo | None, name: str, rows: int, missing: int) -> RunInfo | None:
    """Return a run's JSON as a class with so many rows has it; `missing`: rows that the run lacks.

    None where the JSON is missing, or doesn't know the class.
    """
    plan = info.plan.get("classes", {}).get(name) if info else None
    if info is None or not isinstance(plan, Mapping) or "scenario" not in plan:
        return None
    planned = plan.get("num_requests") if missing > 0 else None
    return dataclasses.replace(
        _with_its_settings(info, name, plan),
        num_requests=max(rows, planned or 0),
        server_counters={},
        unmeasured={},
        observed={},
        client_health={"workers": [{} for _ in info.client_health.get("workers") or []]},
    )


def as_sent(info: RunInfo) -> RunInfo:
    """Return the JSON of a run of one class alone as that of a run that has this class's settings.

    `plan.whole` has the scenario that it is of. Any other run's is as it was.
    """
    alone, classes = info.plan.get("alone"), info.plan.get("classes", {})
    plan = classes.get(alone)
    if not alone or not isinstance(plan, Mapping) or "scenario" not in plan:
        return info
    found = _with_its_settings(info, alone, plan)
    plan = {**found.plan, "whole": info.scenario, "alone": alone}
    return dataclasses.replace(found, plan=plan)


def _with_its_settings(info: RunInfo, name: str, plan: Mapping[str, Any]) -> RunInfo:
    prompts = {key: info.prompts[key] for key in ("counted_by",) if key in info.prompts}
    return dataclasses.replace(
        info,
        scenario={
            **plan["scenario"],
            "name": info.scenario.get("name"),
            "label": info.scenario.get("label"),
            "slo": _slo(info, name, plan["scenario"].get("slo")),
        },
        concurrency=plan.get("concurrency"),
        request_rate=plan.get("request_rate"),
        plan=dict(plan.get("plan") or {}),
        prompts={**prompts, **(plan.get("prompts") or {})},
    )


def _slo(info: RunInfo, name: str, slo: Any) -> Any:
    """Return a class's objectives; of those of the whole scenario not the ones on rates."""
    own = (info.scenario.get("classes") or {}).get(name)
    if not isinstance(slo, Mapping) or (isinstance(own, Mapping) and "slo" in own):
        return slo
    return {key: limits for key, limits in slo.items() if key not in RATES} or None
