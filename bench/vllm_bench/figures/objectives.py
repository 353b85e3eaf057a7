"""A scenario's objectives, and which were met. Kept as counts, so that runs can be added up.

A percentile objective, `ttft_ms p99 <= 500`, is met when 99 % of all arrivals had a TTFT of at
most 500 ms. A request that failed has missed: otherwise refusing work would help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scenario.objectives import percentile_of
from .digits import counted
from .facts import Facts
from .metrics import TITLES, headline_metric, why_absent
from .statistics import Interval, wilson

TIMES = ("ttft_ms", "tpot_ms", "latency_ms", "max_gap_ms")
BETWEEN_TOKENS = ("tpot_ms", "max_gap_ms")  # a streamed reply with one token has none of these


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of all arrivals that must succeed, and within a limit where there is a metric."""

    metric: str | None  # None: success alone
    share: float  # 0.99 for a p99
    limit_ms: float | None

    @property
    def words(self) -> str:
        if self.metric is None:
            return f"success rate ≥ {100 * self.share:.6g} %"
        return f"{TITLES[self.metric]} p{100 * self.share:.6g} ≤ {self.limit_ms:g} ms"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of all arrivals were within an objective's limit."""

    objective: Objective
    arrivals: int
    within: int
    unmeasured: str | None = None  # why it is unknown; it counts as missed

    @property
    def met(self) -> bool:
        return self.unmeasured is None and self.arrivals > 0 and self.short_of == 0

    @property
    def short_of(self) -> int:
        # 0.99 * 100 is 99.00000000000001 in binary: 99 requests are meant.
        return max(0, math.ceil(self.objective.share * self.arrivals - 1e-9) - self.within)

    @property
    def interval(self) -> Interval | None:
        return wilson(self.within, self.arrivals)

    @property
    def words(self) -> str:
        if self.unmeasured is not None:
            return f"{self.objective.words}: not measured ({self.unmeasured})"
        found = self.interval
        if found is None:
            return f"{self.objective.words}: no request"
        within = (
            f"{self.within} of {self.arrivals} within ({100 * self.within / self.arrivals:.3g} %, "
            f"95 % interval {100 * found.low:.3g} to {100 * found.high:.3g})"
        )
        met = "met" if self.met else f"missed by {counted(self.short_of, 'request')}"
        return f"{self.objective.words}: {met}, {within}"


@dataclass(frozen=True, slots=True)
class Attainment:
    """The outcomes of one or several runs, and the requests that met every objective."""

    outcomes: tuple[Outcome, ...]
    arrivals: int
    good: int
    good_in_window: int
    window_s: float | None  # of all runs together; None: a run had no steady window

    @property
    def met(self) -> bool:
        return all(outcome.met for outcome in self.outcomes)

    @property
    def missed(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if not o.met)

    @property
    def unmeasured(self) -> str | None:
        """Why it is unknown which requests met every objective; None: it is known."""
        return next((o.unmeasured for o in self.outcomes if o.unmeasured is not None), None)

    @property
    def share(self) -> float | None:
        """Requests that met every objective, of all arrivals; None: none came, or unmeasured."""
        if not self.arrivals or self.unmeasured is not None:
            return None
        return self.good / self.arrivals

    @property
    def interval(self) -> Interval | None:
        return None if self.share is None else wilson(self.good, self.arrivals)

    @property
    def goodput_per_s(self) -> float | None:
        """Requests per second that met every objective, in the steady window."""
        if not self.window_s or self.unmeasured is not None:
            return None
        return self.good_in_window / self.window_s


def attainment(facts: Facts) -> Attainment | None:
    """Return which of its scenario's objectives a run met; None where it has none."""
    objectives = run_objectives(facts)
    if not objectives:
        return None
    within = [(one, _within(facts, one)) for one in objectives]
    good = ~facts.failed
    for metric in {one.metric for one in objectives}:
        # Of several limits on one metric, a single request must keep the widest.
        good &= np.any([those for one, those in within if one.metric == metric], axis=0)
    window, inside = facts.window, good
    if window is not None:
        inside = good & facts.frame["t_end_s"].between(window.start_s, window.end_s).to_numpy()
    return Attainment(
        outcomes=tuple(
            Outcome(one, facts.arrivals, int(those.sum()), _why_unmeasured(facts, one))
            for one, those in within
        ),
        arrivals=facts.arrivals,
        good=int(good.sum()),
        good_in_window=int(inside.sum()),
        window_s=None if window is None else window.length_s,
    )


def run_objectives(facts: Facts) -> tuple[Objective, ...]:
    """Return the objectives of a run; none where its settings have none that can be read.

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


def _why_unmeasured(facts: Facts, objective: Objective) -> str | None:
    metric = objective.metric
    if metric is None or facts.succeeded.empty or facts.values(metric).size:
        return None
    return why_absent(facts, metric)


def _within(facts: Facts, objective: Objective) -> NDArray[np.bool_]:
    """Return, one value per row, whether its request succeeded within the limit.

    A streamed success with one token has no TPOT and can't miss it; any other success without the
    value doesn't count as within: it wasn't measured.
    """
    if objective.metric is None:
        return ~facts.failed
    values = facts.times(objective.metric).to_numpy(dtype="float64", na_value=np.nan)
    within: NDArray[np.bool_] = values <= objective.limit_ms
    if objective.metric in BETWEEN_TOKENS:
        streamed = (facts.frame["token_events"] > 0).to_numpy(dtype=bool, na_value=False)
        within |= np.isnan(values) & streamed
    return ~facts.failed & within


def pooled(parts: Sequence[Attainment]) -> Attainment | None:
    """Return several runs' attainment as one; None where their objectives differ."""
    if not parts or len({tuple(o.objective for o in part.outcomes) for part in parts}) > 1:
        return None
    windows_s = [part.window_s for part in parts if part.window_s is not None]
    return Attainment(
        outcomes=tuple(
            _pooled_outcome(each) for each in zip(*(part.outcomes for part in parts), strict=True)
        ),
        arrivals=sum(part.arrivals for part in parts),
        good=sum(part.good for part in parts),
        good_in_window=sum(part.good_in_window for part in parts),
        window_s=sum(windows_s) if len(windows_s) == len(parts) else None,
    )


def _pooled_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        outcomes[0].objective,
        sum(o.arrivals for o in outcomes),
        sum(o.within for o in outcomes),
        next((o.unmeasured for o in outcomes if o.unmeasured), None),
    )
