"""A scenario's objectives, and which were met. Kept as counts, so that runs can be added up.

A percentile objective, `ttft_ms p99 <= 500`, allows 1 % of the arrivals to be late: to have no TTFT
of at most 500 ms. A request that failed is late: otherwise refusing work would help; and one that
was never answered has no `ttfa_ms`, so it is late too: otherwise thinking longer would. A run is a
sample: the objective is met where even the upper bound of the share late (one-sided, 95 %) is
allowed, missed where even the lower bound isn't, and not shown in between.

An objective on a rate, `output_tokens_per_s min 2000`, is judged alike, by the bounds of the rate.
No single request meets or misses it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..records.text import printable
from ..scenario.objectives import percentile_of
from ..stats.batches import Interval
from ..stats.rate import Rate
from ..stats.share import Share
from .digits import short
from .jobs.jobs import JOB_TIMES
from .metrics import TITLES
from .throughput import RateMetric

TIMES = ("ttft_ms", "ttfa_ms", "tpot_ms", "latency_ms", "max_gap_ms", "job_served_s")
RATE_TITLES: dict[RateMetric, str] = {
    "output_tokens_per_s": "output tokens/s",
    "requests_per_s": "requests/s",
}
BETWEEN_TOKENS = ("tpot_ms", "max_gap_ms")  # a streamed reply with one token has none of these


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of all arrivals that must succeed, and within a limit where there is a metric."""

    metric: str | None  # None: success alone
    share: float  # 0.99 for a p99
    limit: float | None  # ms; of jobs' times s
    of_class: str | None = None  # whose requests it is about; None: those that it is judged over

    @property
    def words(self) -> str:
        if self.metric is None:
            words = f"success rate ≥ {100 * self.share:.6g} %"
        else:
            limit = f"{self.limit:g} {'s' if self.of_jobs else 'ms'}"
            words = f"{TITLES[self.metric]} p{100 * self.share:.6g} ≤ {limit}"
        return _whose(self.of_class, words)

    @property
    def of_jobs(self) -> bool:
        """Whether it is about whole sessions, and not about requests."""
        return self.metric in JOB_TIMES


@dataclass(frozen=True, slots=True)
class RateObjective:
    """Work per second that must be done, of successes."""

    metric: RateMetric
    least: float
    of_class: str | None = None

    @property
    def words(self) -> str:
        return _whose(self.of_class, f"{RATE_TITLES[self.metric]} ≥ {self.least:g}")


def _whose(name: str | None, words: str) -> str:
    return words if name is None else f"{printable(name, 32)}: {words}"


Word = Literal["met", "missed", "not shown"]
BOUND = 0.95  # one-sided confidence of met and missed


class Judged(ABC):
    """An objective, and what was measured of it: its bounds give a word."""

    __slots__ = ()
    objective: Objective | RateObjective
    unmeasured: str | None  # why it is unknown; it counts as missed

    @property
    @abstractmethod
    def word(self) -> Word:
        """What the bounds show."""

    @property
    @abstractmethod
    def figure(self) -> str:
        """What was measured, in a word or two."""

    @property
    @abstractmethod
    def more(self) -> str | None:
        """About how much more would show it, in words; None: nobody can say."""

    @property
    @abstractmethod
    def measured(self) -> str:
        """What was measured, with its interval."""

    @property
    def met(self) -> bool:
        return self.word == "met"

    @property
    def words(self) -> str:
        if self.unmeasured is not None:
            return f"{self.objective.words}: not measured ({self.unmeasured})"
        return f"{self.short_words}, {self.measured}"

    @property
    def short_words(self) -> str:
        """The objective and its word: `TTFT p99 ≤ 500 ms: not shown (about 370 requests more)`."""
        more = f" ({self.more or 'too close to tell'})" if self.word == "not shown" else ""
        return f"{self.objective.words}: {self.word}{more}"


def _word(met: bool, missed: bool) -> Word:
    return "met" if met else "missed" if missed else "not shown"


@dataclass(frozen=True, slots=True)
class Outcome(Judged):
    """How many of the arrivals were within an objective's limit, and what that shows."""

    objective: Objective
    share: Share
    unmeasured: str | None = None

    @property
    def arrivals(self) -> int:
        return self.share.of

    @property
    def within(self) -> int:
        return sum(self.share.within)

    @property
    def allowed(self) -> float:
        """The share of requests that may be late."""
        return 1 - self.objective.share

    @property
    def word(self) -> Word:
        if self.unmeasured is not None or not self.share.of:
            return "missed"
        if self.allowed <= 0:  # no sample shows that none is ever late: it is about this run
            return "missed" if self.share.late else "met"
        low, high = self.share.late_bounds(BOUND)
        return _word(high <= self.allowed + 1e-12, low > self.allowed)

    @property
    def more_needed(self) -> int | None:
        """About how many requests more would show it, if the share late stays as it is.

        None: it is shown, or it lies too close to what is allowed.
        """
        if self.word != "not shown":
            return None
        share = self.share.late / self.arrivals
        away = abs(self.allowed - share)
        if away < self.allowed / 20:
            return None
        low, high = self.share.late_bounds(BOUND)
        margin = high - share if share < self.allowed else share - low
        # The bound falls with the number of requests if none is late, else with its root.
        power = 1 if self.share.late == 0 else 2
        return math.ceil(self.arrivals * ((margin / away) ** power - 1))

    @property
    def more(self) -> str | None:
        needed = self.more_needed
        if needed is None:
            return None
        return f"about {needed:,} {self._unit}{'s' * (needed != 1)} more"

    @property
    def _unit(self) -> str:
        return "job" if self.objective.of_jobs else "request"

    @property
    def interval(self) -> Interval | None:
        return self.share.interval

    @property
    def figure(self) -> str:
        return f"{100 * self.within / max(self.arrivals, 1):.3g} % within"

    @property
    def measured(self) -> str:
        found = self.interval
        if found is None:
            return f"no {self._unit}"
        return (
            f"{self.within} of {self.arrivals} within ({100 * self.within / self.arrivals:.3g} %, "
            f"95 % interval {100 * found.low:.3g} to {100 * found.high:.3g})"
        )


MOST_TIMES = 100  # as long: a run that would have to be longer is too close to tell


@dataclass(frozen=True, slots=True)
class RateOutcome(Judged):
    """A rate, and whether it was high enough."""

    objective: RateObjective
    rate: Rate
    whole: bool = False  # of the whole run: it has no steady window, or its tokens no stamps
    unmeasured: str | None = None

    @property
    def word(self) -> Word:
        if self.unmeasured is not None or not self.rate.total_s:
            return "missed"
        (low, high), least = self.rate.bounds(BOUND), self.objective.least
        return _word(low >= least * (1 - 1e-12), high < least)

    @property
    def more_needed(self) -> int | None:
        """About how many seconds more, or runs (`more_of`), would show it at the rate as it is.

        None: it is shown, or the rate lies too close to the objective.
        """
        if self.word != "not shown":
            return None
        low, high = self.rate.bounds(BOUND)
        away = self.rate.per_s - self.objective.least
        margin = self.rate.per_s - low if away > 0 else high - self.rate.per_s
        if margin**2 > MOST_TIMES * away**2:
            return None
        times = (margin / away) ** 2 - 1
        parts = len(self.rate.work) if self.rate.of_runs else self.rate.total_s
        return max(1, math.ceil(parts * times))

    @property
    def more_of(self) -> Literal["s", "runs"]:
        return "runs" if self.rate.of_runs else "s"

    @property
    def more(self) -> str | None:
        needed = self.more_needed
        unit = "s" if self.more_of == "s" else "run" if needed == 1 else "runs"
        return None if needed is None else f"about {needed:,} {unit} more"

    @property
    def interval(self) -> Interval | None:
        return self.rate.interval if self.rate.total_s else None

    @property
    def figure(self) -> str:
        return f"{short(self.rate.per_s)}/s"

    @property
    def measured(self) -> str:
        found = self.interval
        if found is None:
            return "no request"
        where = "whole run" if self.whole else "steady window"
        of = f" of {len(self.rate.work)} runs" if self.rate.of_runs else ""
        return (
            f"{self.figure} ({where}{of}, 95 % interval {short(found.low)} to {short(found.high)})"
        )


def objectives_of(slo: Mapping[str, Any]) -> tuple[Objective | RateObjective, ...]:
    """Return the objectives in a run's settings."""
    found: list[Objective | RateObjective] = []
    for metric in TIMES:
        limits = slo.get(metric) or {}
        found += [
            Objective(metric, percentile_of(name) / 100, float(limit))
            for name, limit in sorted(limits.items(), key=lambda item: percentile_of(item[0]))
        ]
    rate = slo.get("success_rate")
    found += [] if rate is None else [Objective(None, float(rate), None)]
    for name in get_args(RateMetric):
        least = (slo.get(name) or {}).get("min")
        found += [] if least is None else [RateObjective(name, float(least))]
    return tuple(found)
