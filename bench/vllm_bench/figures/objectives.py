"""A scenario's objectives, and which were met. Kept as counts, so that runs can be added up.

A percentile objective, `ttft_ms p99 <= 500`, allows 1 % of the arrivals to be late: to have no TTFT
of at most 500 ms. A request that failed is late: otherwise refusing work would help. A run is a
sample: the objective is met where even the upper bound of the share late (one-sided, 95 %) is
allowed, missed where even the lower bound isn't, and not shown in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..scenario.objectives import percentile_of
from ..stats.batches import Interval
from ..stats.share import Share, pooled_share
from .metrics import TITLES

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


Word = Literal["met", "missed", "not shown"]
BOUND = 0.95  # one-sided confidence of met and missed


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of the arrivals were within an objective's limit, and what that shows."""

    objective: Objective
    share: Share
    unmeasured: str | None = None  # why it is unknown; it counts as missed

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
        if high <= self.allowed + 1e-12:
            return "met"
        return "missed" if low > self.allowed else "not shown"

    @property
    def met(self) -> bool:
        return self.word == "met"

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
        # Of none late, the bound falls with the number; otherwise with its root.
        power = 1 if self.share.late == 0 else 2
        return math.ceil(self.arrivals * ((margin / away) ** power - 1))

    @property
    def interval(self) -> Interval | None:
        return self.share.interval

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
        return f"{self.short_words}, {within}"

    @property
    def short_words(self) -> str:
        """The objective and its word: `TTFT p99 ≤ 500 ms: not shown (about 370 requests more)`."""
        return f"{self.objective.words}: {self.word}{self._more}"

    @property
    def _more(self) -> str:
        if self.word != "not shown":
            return ""
        more = self.more_needed
        return " (too close to tell)" if more is None else f" (about {more:,} requests more)"


@dataclass(frozen=True, slots=True)
class Attainment:
    """The outcomes of one or several runs, and the requests that met every objective."""

    outcomes: tuple[Outcome, ...]
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
    def missed(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.word == "missed")

    @property
    def not_shown(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.word == "not shown")

    @property
    def unmeasured(self) -> str | None:
        """Why it is unknown which requests met every objective; None: it is known."""
        return next((o.unmeasured for o in self.outcomes if o.unmeasured is not None), None)

    @property
    def share(self) -> float | None:
        """Requests that met every objective, of the arrivals; None: none came, or unmeasured."""
        if not self.arrivals or self.unmeasured is not None:
            return None
        return self.good / self.arrivals

    @property
    def interval(self) -> Interval | None:
        return None if self.share is None else self.good_share.interval

    @property
    def goodput_per_s(self) -> float | None:
        """Requests per second that met every objective, in the steady window."""
        if not self.window_s or self.unmeasured is not None:
            return None
        return self.good_in_window / self.window_s


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


def _pooled_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        outcomes[0].objective,
        pooled_share([o.share for o in outcomes]),
        next((o.unmeasured for o in outcomes if o.unmeasured), None),
    )
