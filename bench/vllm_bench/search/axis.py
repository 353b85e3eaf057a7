"""What a search varies: a scenario's request rate, its streams, or its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ..errors import UsageError
from ..figures.objectives import Objective, objectives_of
from ..scenario.objectives import Slo
from ..scenario.scenario import Scenario
from .sizes import Size
from .steps import Space

# sessions: conversations or recorded sessions held at once, each as a stream.
Of = Literal["rate", "concurrency", "sessions"]
UNITS: dict[Of, str] = {"rate": "requests/s", "concurrency": "streams", "sessions": "sessions"}
ONE = 8  # times below and above a scenario's only level
LOWEST, HIGHEST = 1.0, 1024.0  # where it has none
MOST = 16384  # streams of a run
SLO = ""  # the tier of the scenario's own slo


def axis_of(scenario: Scenario, asked: Of | None) -> Of:
    """Return what is varied. Raises UsageError where the scenario has nothing of the kind."""
    talks = scenario.holds_sessions
    of = asked or ("sessions" if talks else "rate")
    if scenario.trace is not None and not talks:
        raise UsageError(
            f"scenario {scenario.name}: a trace has its own times: search with request_rates or "
            "concurrencies in its place"
        )
    if of != "sessions" and talks:
        raise UsageError(
            f"--of {of}: scenario {scenario.name} has conversations or recorded sessions, of which "
            "each waits for its answers: use --of sessions"
        )
    if of == "sessions" and not talks:
        raise UsageError(
            f"--of sessions: scenario {scenario.name} has no sessions: use --of concurrency, set "
            "conversations, or give a trace of sessions with concurrencies"
        )
    shares = any(one.share for one in scenario.by_class.values())
    if scenario.by_class and (of != "rate" or not shares):
        raise UsageError(
            f"--of {of}: scenario {scenario.name} has classes, whose streams send for a set time: "
            "search the request rate of classes with a share"
        )
    return of


def space_of(scenario: Scenario, of: Of, low: float | None, high: float | None) -> Space:
    """Return among which loads to search: those given, or what the scenario's levels span.

    Raises UsageError where it has no objectives, or the loads make no range.
    """
    tiers = tuple(objectives(scenario))
    if not tiers:
        raise UsageError(
            f"scenario {scenario.name} has no objectives on requests, so nothing tells how much is "
            "too much: set slo, or give --slo ttft_ms.p99=500"
        )
    whole = of != "rate"
    levels: Sequence[float] = scenario.concurrencies if whole else scenario.request_rates
    least, most = _span(levels)
    low, high = low or least, high or max(most, 2 * (low or 0))
    if whole:
        low, high = float(max(1, round(low))), float(min(MOST, max(1, round(high))))
    if low >= high:
        raise UsageError(f"--low {low:g} --high {high:g}: the lowest load must be below the other")
    return Space(low=low, high=high, whole=whole, tiers=tiers)


def _span(levels: Sequence[float]) -> tuple[float, float]:
    if len(levels) == 1:
        return levels[0] / ONE, levels[0] * ONE
    return (min(levels), max(levels)) if levels else (LOWEST, HIGHEST)


def objectives(scenario: Scenario) -> dict[str, tuple[Objective, ...]]:
    """Return a scenario's objectives by tier: its slo, which has no name, and its slo_tiers.

    Those on rates decide nothing: more load brings them. A tier that has no others is left out.
    With classes its slo is each class's.
    """
    tiers = {SLO: scenario.slo, **(scenario.slo_tiers or {})}
    of_each = {name: _on_requests(slo) for name, slo in tiers.items()}
    if scenario.by_class:
        own = {name: _on_requests(scenario.of_class(name).slo) for name in scenario.by_class}
        of_each[SLO] = tuple(replace(o, of_class=n) for n, found in own.items() for o in found)
    return {name: of_tier for name, of_tier in of_each.items() if of_tier}


def _on_requests(slo: Slo | None) -> tuple[Objective, ...]:
    found = objectives_of(slo.model_dump()) if slo is not None else ()
    return tuple(o for o in found if isinstance(o, Objective))


def scenario_at(scenario: Scenario, of: Of, load: float, size: Size, seed: int) -> Scenario:
    """Return the scenario with one level, as a run of a search sends it."""
    given = scenario.model_dump(exclude_unset=True)
    one = {"repeats": 1, "num_requests": size.requests, "duration_s": None, "seed": seed}
    closed = {"request_rates": [], "concurrencies": [round(load)]}
    opened: dict[str, Any] = {"request_rates": [load], "concurrencies": [], "start": None}
    not_closed: dict[str, Any] = dict.fromkeys(("arrival", "cv", "burst_size", "max_in_flight"))
    own = opened if of == "rate" else {**closed, **not_closed, "ramp_s": 0.0}
    return Scenario.model_validate({**given, **one, **own})
