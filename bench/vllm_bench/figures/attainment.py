"""A run held against its scenario's objectives, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vllm_bench.scenario.objectives import percentile_of

from .facts import Facts
from .metrics import headline_metric, why_absent
from .objectives import Attainment, Objective, Outcome

TIMES = ("ttft_ms", "tpot_ms", "latency_ms", "max_gap_ms")
BETWEEN_TOKENS = ("tpot_ms", "max_gap_ms")  # a streamed reply in one piece has none to be late


def objectives_of(slo: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives in a run's settings. Raises ValueError where they are damaged."""
    found = []
    for metric in TIMES:
        limits = slo.get(metric) or {}
        if not isinstance(limits, Mapping):
            raise ValueError(f"{metric}: not a mapping")  # noqa: TRY004
        found += [
            Objective(metric, percentile_of(str(name)) / 100, float(limit))
            for name, limit in sorted(limits.items(), key=lambda item: percentile_of(item[0]))
        ]
    rate = slo.get("success_rate")
    return (*found, *([] if rate is None else [Objective(None, float(rate), None)]))


def attainment(facts: Facts) -> Attainment | None:
    """Return what a run met of its scenario's objectives; None where it has none."""
    objectives = run_objectives(facts)
    if not objectives:
        return None
    good = ~facts.failed
    for metric, limit in _request_limits(objectives).items():
        good &= _within(facts, metric, limit)
    window, inside = facts.window, good
    if window is not None:
        inside = good & facts.frame["t_end_s"].between(window.start_s, window.end_s).to_numpy()
    return Attainment(
        outcomes=tuple(_outcome(facts, objective) for objective in objectives),
        arrivals=facts.arrivals,
        good=int(good.sum()),
        good_in_window=int(inside.sum()),
        window_s=None if window is None else window.length_s,
    )


def run_objectives(facts: Facts) -> tuple[Objective, ...]:
    """Return the objectives of a run; none where its settings hold none that can be read.

    In an open loop those on TTFT and latency are judged from the schedule.
    """
    slo = facts.setting("slo")
    try:
        found = objectives_of(slo) if isinstance(slo, Mapping) else ()
    except (TypeError, ValueError):
        return ()
    return tuple(
        replace(one, metric=one.metric and headline_metric(one.metric, facts.load)) for one in found
    )


def _request_limits(objectives: Sequence[Objective]) -> dict[str, float]:
    """Return what one request must keep to: of several limits on a metric the widest."""
    found: dict[str, float] = {}
    for one in objectives:
        if one.metric is not None and one.limit_ms is not None:
            found[one.metric] = max(found.get(one.metric, 0.0), one.limit_ms)
    return found


def _outcome(facts: Facts, objective: Objective) -> Outcome:
    if objective.metric is None or objective.limit_ms is None:
        return Outcome(objective, facts.arrivals, len(facts.succeeded))
    why = None
    if facts.values(objective.metric).size == 0 and len(facts.succeeded):
        why = why_absent(facts, objective.metric)
    within = int(_within(facts, objective.metric, objective.limit_ms).sum())
    return Outcome(objective, facts.arrivals, within, why)


def _within(facts: Facts, metric: str, limit_ms: float) -> NDArray[np.bool_]:
    """Return, a row each, whether it succeeded within the limit.

    A streamed success without a second token (one token has no TPOT) had nothing to miss; any
    other without the value met nothing: nobody measured it.
    """
    values = facts.times(metric).to_numpy(dtype="float64", na_value=np.nan)
    within: NDArray[np.bool_] = values <= limit_ms
    if metric in BETWEEN_TOKENS:
        streamed = (facts.frame["token_events"] > 0).to_numpy(dtype=bool, na_value=False)
        within |= np.isnan(values) & streamed
    found: NDArray[np.bool_] = ~facts.failed & within
    return found
