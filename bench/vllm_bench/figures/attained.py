"""Which of its scenario's objectives a run attained: from its rows to `Attainment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.text import printable
from ..stats.batches import BATCHES, Interval, Values
from ..stats.rate import pooled_rate
from ..stats.share import Share, pooled_share, together
from .facts import Facts
from .jobs.jobs import JOB_TIMES
from .metrics import NO_ANSWER, headline_metric, why_absent
from .objectives import (
    BETWEEN_TOKENS,
    Judged,
    Objective,
    Outcome,
    RateObjective,
    RateOutcome,
    Word,
    objectives_of,
)
from .throughput import rate_of, rate_window, shares_inside


@dataclass(frozen=True, slots=True)
class Attainment:
    """The outcomes of one or several runs, and the requests that met every objective on one."""

    outcomes: tuple[Outcome | RateOutcome, ...]
    good_share: Share
    good_in_window: float
    window_s: float | None  # of all runs together; None: a run had no steady window

    @property
    def arrivals(self) -> int:
        return self.good_share.of

    @property
    def good(self) -> int:
        return sum(self.good_share.within)

    @property
    def word(self) -> Word:
        """The worst of its outcomes' words."""
        words = {outcome.word for outcome in self.outcomes}
        return "missed" if "missed" in words else "not shown" if "not shown" in words else "met"

    @property
    def met(self) -> bool:
        return self.word == "met"

    @property
    def missed(self) -> tuple[Judged, ...]:
        return tuple(o for o in self.outcomes if o.word == "missed")

    @property
    def too_little(self) -> bool:
        """Whether rates alone were missed: more load may bring them."""
        return bool(self.missed) and all(isinstance(o, RateOutcome) for o in self.missed)

    @property
    def not_shown(self) -> tuple[Judged, ...]:
        return tuple(o for o in self.outcomes if o.word == "not shown")

    @property
    def failing(self) -> str:
        """Those missed, and those not shown with what it takes, in words."""
        return "; ".join(o.short_words for o in (*self.missed, *self.not_shown))

    @property
    def on_shares(self) -> tuple[Outcome, ...]:
        """The outcomes of objectives on a share of the requests, or of the jobs: not on rates."""
        return tuple(o for o in self.outcomes if isinstance(o, Outcome))

    @property
    def on_requests(self) -> tuple[Outcome, ...]:
        """The outcomes of objectives that a single request can meet: not on rates, nor on jobs."""
        return tuple(o for o in self.on_shares if not o.objective.of_jobs)

    @property
    def by_class(self) -> bool:
        """Whether there are outcomes of several classes: each is judged by itself."""
        return any(o.objective.of_class is not None for o in self.outcomes)

    @property
    def unmeasured(self) -> str | None:
        """Why it is unknown which requests met every objective; None: it is known."""
        return next((o.unmeasured for o in self.on_requests if o.unmeasured is not None), None)

    @property
    def share(self) -> float | None:
        """Requests that met every objective on one, of the arrivals.

        None: none came, it is unmeasured, there are objectives on rates alone, or each class has
        its own: a mean over classes would hide the one that was served badly.
        """
        none = not self.arrivals or not self.on_requests or self.unmeasured is not None
        return None if none or self.by_class else self.good / self.arrivals

    @property
    def interval(self) -> Interval | None:
        return None if self.share is None else self.good_share.interval

    @property
    def goodput_per_s(self) -> float | None:
        """Requests per second that met every objective, in the steady window."""
        if not self.window_s or not self.on_requests or self.unmeasured is not None:
            return None
        return self.good_in_window / self.window_s


def attainment(facts: Facts) -> Attainment | None:
    """Return which of its scenario's objectives (`slo`) a run met; None where it has none.

    With classes it has the outcomes of each, over its own requests.
    """
    objectives = run_objectives(facts)
    own = _attained(facts, objectives) if objectives else None
    return _of_classes(facts, own) if facts.classes else own


def _of_classes(facts: Facts, own: Attainment | None) -> Attainment | None:
    """Return the outcomes of all classes, after them those of the run as a whole (`own`)."""
    found = {name: attainment(part) for name, part in facts.classes.items()}
    parts = {name: one for name, one in found.items() if one is not None}
    if not parts:
        return own
    of_each = [_named(o, name) for name, one in parts.items() for o in one.outcomes]
    return Attainment(
        outcomes=(*of_each, *(own.outcomes if own else ())),
        good_share=pooled_share([one.good_share for one in parts.values()]),
        good_in_window=sum(one.good_in_window for one in parts.values()),
        window_s=None if facts.window is None else facts.window.length_s,
    )


def tier_attainments(facts: Facts) -> dict[str, Attainment]:
    """Return which objectives a run met of each of its scenario's `slo_tiers`, by their names."""
    tiers = facts.setting("slo_tiers") or {}
    asked = {printable(name, 32): _objectives(facts, slo) for name, slo in tiers.items()}
    return {name: _attained(facts, of_tier) for name, of_tier in asked.items() if of_tier}


def _attained(facts: Facts, objectives: Sequence[Objective | RateObjective]) -> Attainment:
    """Return which of these objectives a run met.

    Over the counted requests. Those without a row, because the run broke off, are late.
    """
    on_requests = [one for one in objectives if isinstance(one, Objective)]
    within = {one: _within(facts, one) for one in on_requests}
    good = ~facts.failed
    for metric in {one.metric for one in on_requests if not one.of_jobs}:
        # Of several limits on one metric, a single request must keep the widest.
        good &= np.any([those for one, those in within.items() if one.metric == metric], axis=0)
    window = facts.window
    return Attainment(
        outcomes=tuple(
            Outcome(one, _share(facts, one, within[one]), _why_unmeasured(facts, one.metric))
            if isinstance(one, Objective)
            else _rate_outcome(facts, one)
            for one in objectives
        ),
        good_share=_share(facts, Objective(None, 1.0, None), good),
        good_in_window=float(shares_inside(facts.frame.of(good), window).sum()) if window else 0.0,
        window_s=None if window is None else window.length_s,
    )


def _named(outcome: Outcome | RateOutcome, name: str) -> Outcome | RateOutcome:
    """Return an outcome that says whose it is."""
    if isinstance(outcome, Outcome):
        return replace(outcome, objective=replace(outcome.objective, of_class=name))
    return replace(outcome, objective=replace(outcome.objective, of_class=name))


def _rate_outcome(facts: Facts, objective: RateObjective) -> RateOutcome:
    of = "completion_tokens" if objective.metric == "output_tokens_per_s" else None
    whole = rate_window(facts, objective.metric) is None
    rate = rate_of(facts, objective.metric)
    return RateOutcome(objective, rate, whole, _why_unmeasured(facts, of))


def _share(facts: Facts, objective: Objective, within: NDArray[np.bool_]) -> Share:
    """Return how many of the counted requests are within, batch by batch."""
    judged = facts.counted
    if objective.of_jobs:  # each is judged where its last turn stands
        judged = judged & facts.jobs.ends if facts.jobs else np.zeros(facts.rows, dtype=bool)
    batches = facts.batches[judged]
    arrivals = np.bincount(batches, minlength=BATCHES)
    inside = np.bincount(facts.batches[judged & within], minlength=BATCHES)
    if not objective.of_jobs:
        arrivals[-1] += facts.arrivals - facts.rows
    return Share(
        tuple(arrivals.tolist()),
        tuple(inside.tolist()),
        together(_metric_values(facts, objective)[judged], batches),
    )


def run_objectives(facts: Facts) -> tuple[Objective | RateObjective, ...]:
    """Return the objectives of a run.

    In an open loop those on TTFT and latency are judged from the schedule. With classes those of
    the run as a whole are on rates: its other ones are each class's, unless it has its own.
    """
    found = _objectives(facts, facts.setting("slo"))
    return tuple(o for o in found if isinstance(o, RateObjective)) if facts.classes else found


def _objectives(
    facts: Facts, slo: Mapping[str, Any] | None
) -> tuple[Objective | RateObjective, ...]:
    return tuple(
        replace(one, metric=one.metric and headline_metric(one.metric, facts.load))
        if isinstance(one, Objective)
        else one
        for one in objectives_of(slo or {})
    )


def _why_unmeasured(facts: Facts, metric: str | None) -> str | None:
    if metric is None or not len(facts.succeeded) or facts.values(metric).size:
        return None
    if metric in JOB_TIMES and facts.jobs and (facts.jobs.ends & facts.counted).any():
        return None  # that each failed was measured
    why = why_absent(facts, metric)
    return None if why == NO_ANSWER else why  # that none was answered was measured


def _within(facts: Facts, objective: Objective) -> NDArray[np.bool_]:
    """Return, one value per row, whether its request succeeded within the limit.

    A streamed success with one token has no TPOT and can't miss it; any other success without the
    value doesn't count as within: it wasn't measured.
    """
    if objective.metric is None or objective.limit is None:
        return ~facts.failed
    values = _metric_values(facts, objective)
    within: NDArray[np.bool_] = values <= objective.limit
    if objective.metric in BETWEEN_TOKENS:
        within |= np.isnan(values) & (facts.frame["token_events"] > 0)
    return ~facts.failed & within


def _metric_values(facts: Facts, objective: Objective) -> Values:
    """Return the metric of an objective, one value per row; nan where there is none."""
    if objective.metric is None:
        return np.full(facts.rows, np.nan)
    return facts.times(objective.metric)


def without(found: Attainment, metric: str, why: str) -> Attainment:
    """Return an attainment in which objectives on a metric count as not measured."""
    outcomes = (
        replace(one, unmeasured=why) if one.objective.metric == metric else one
        for one in found.outcomes
    )
    return replace(found, outcomes=tuple(outcomes))


def pooled(parts: Sequence[Attainment]) -> Attainment | None:
    """Return several runs' attainment as one; None where their objectives differ."""
    if not parts or len({tuple(o.objective for o in part.outcomes) for part in parts}) > 1:
        return None
    windows_s = [part.window_s for part in parts if part.window_s is not None]
    return Attainment(
        outcomes=tuple(
            _pooled_outcome(each) for each in zip(*(part.outcomes for part in parts), strict=True)
        ),
        good_share=pooled_share([part.good_share for part in parts]),
        good_in_window=sum(part.good_in_window for part in parts),
        window_s=sum(windows_s) if len(windows_s) == len(parts) else None,
    )


def _pooled_outcome(parts: Sequence[Outcome | RateOutcome]) -> Outcome | RateOutcome:
    unmeasured = next((o.unmeasured for o in parts if o.unmeasured), None)
    rates = [one for one in parts if isinstance(one, RateOutcome)]
    if rates:
        rate, whole = pooled_rate([one.rate for one in rates]), any(one.whole for one in rates)
        return RateOutcome(rates[0].objective, rate, whole, unmeasured)
    shares = [one for one in parts if isinstance(one, Outcome)]
    share = pooled_share([one.share for one in shares])
    return Outcome(shares[0].objective, share, unmeasured)
