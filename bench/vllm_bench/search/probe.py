"""What one run of a search showed: how many requests were late, for each objective of each tier.

Kept as counts, so that runs can be added up, and a search can be gone on with from its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..figures.digits import short
from ..figures.objectives import BOUND, Word
from ..stats.share import Share, pooled_share

# `find`: doubling, with few requests; `close`: bisection; `confirm`: is the answer right?
Purpose = Literal["find", "close", "confirm"]
SURE_ENOUGH = 0.90  # one-sided confidence of a confirmation
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """The requests of one run, or of several, that were late for one objective."""

    objective: str  # for people: `TTFT p99 ≤ 500 ms`
    figure: str  # `TTFT p99`; empty: success alone
    limit_ms: float | None
    value_ms: float | None = None  # the figure, of those that succeeded
    allowed: float  # the share that may be late
    of: int
    late: int
    low: float  # bounds of the share late, each with a confidence of 95 %
    high: float
    together: float = 1.0  # about how many are late together: see stats/share.py

    @property
    def share(self) -> float:
        """The share late; 1 where no request counted."""
        return self.late / self.of if self.of else 1.0

    @property
    def within(self) -> bool:
        """Whether no more were late than may be: of this run, not of the load."""
        return self.share <= self.allowed + ROUNDING

    @property
    def word(self) -> Word:
        """What it shows of the load, as figures/objectives.py has it."""
        if not self.of:
            return "missed"
        if self.allowed <= ROUNDING:  # no sample shows that none is ever late
            return "missed" if self.late else "met"
        if self.high <= self.allowed + ROUNDING:
            return "met"
        return "missed" if self.low > self.allowed else "not shown"

    @property
    def words(self) -> str:
        """What there was, of what is allowed: `TTFT p99 612 ms of 500`, or the share late."""
        limit_ms, value_ms = self.limit_ms, self.value_ms
        if limit_ms is not None and value_ms is not None and self.within == (value_ms <= limit_ms):
            return f"{self.figure} {short(value_ms)} ms of {limit_ms:g}"
        late, allowed = 100 * self.share, 100 * self.allowed
        what = "failed" if limit_ms is None else "late or failed"
        return f"{self.objective}: {late:.3g} % {what} of {allowed:.3g} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One run of a search: its load, what came out, and what the server said."""

    number: int  # from 1, in the order of the search
    purpose: Purpose
    tier: str = ""  # for which it was made; empty: the scenario's slo
    load: float  # requests/s, streams or sessions
    run_id: str
    requests: int  # planned
    counted: int  # of which the figures are
    seconds: float  # that it took, with what lies before and after
    per_s: float | None = None  # requests that succeeded in a second, over the whole run
    late: Mapping[str, tuple[Late, ...]]  # by tier, in the order of its objectives
    # The rates that it missed, by tier. They decide nothing: with less load they are lower still.
    short: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    over: str | None = None  # why it isn't met, whatever was late: its queue grew, requests failed
    stopped: str | None = None  # why it was ended early
    spoilt: str | None = None  # why it can't be believed: it answers nothing
    verdict: str = "VALID"
    limits: tuple[str, ...] = ()  # by which the server was limited: `KV cache full`
    server: Mapping[str, float | None] = field(default_factory=dict)  # the figures behind that

    def word(self, tier: str = "") -> Word:
        """What it shows of its load: the worst of the objectives' words."""
        words = {late.word for late in self.late[tier]}
        if self.over is not None or "missed" in words:
            return "missed"
        return "not shown" if "not shown" in words or self.stopped is not None else "met"

    def holds(self, tier: str = "") -> bool:
        """Whether this run met the tier's objectives: by this the search goes up or down.

        One that was ended early had too many late, if not all in the part that is judged.
        """
        early = self.over is not None or self.stopped is not None
        return not early and all(late.within for late in self.late[tier])

    def worst(self, tier: str = "") -> Late:
        """The objective that is furthest over what is allowed, or nearest to it."""
        return max(self.late[tier], key=lambda late: late.share / max(late.allowed, ROUNDING))

    def why(self, tier: str = "") -> str:
        """Why it holds or not, for people."""
        if self.spoilt is not None:
            return self.spoilt
        said = self.worst(tier).words
        if self.over is not None:
            said = self.over if self.worst(tier).within else f"{said}, {self.over}"
        return f"{said} ({self.stopped})" if self.stopped is not None else said


def pooled(runs: Sequence[tuple[Late, ...]]) -> tuple[Late, ...]:
    """Return several runs' requests late as one, objective by objective."""
    return tuple(_one(parts) for parts in zip(*runs, strict=True))


def _one(parts: Sequence[Late]) -> Late:
    if len(parts) == 1:
        return parts[0]
    share, first = _share(parts), parts[0]
    low, high = share.late_bounds(BOUND) if share.of else (0.0, 1.0)
    values = [p.value_ms for p in parts if p.value_ms is not None]
    return Late(
        objective=first.objective,
        figure=first.figure,
        limit_ms=first.limit_ms,
        value_ms=sorted(values)[len(values) // 2] if values else None,
        allowed=first.allowed,
        of=share.of,
        late=share.late,
        low=low,
        high=high,
        together=share.together,
    )


def _share(parts: Sequence[Late]) -> Share:
    """Return the share within of several runs; from three on each is one batch."""
    return pooled_share([Share((p.of,), (p.of - p.late,), p.together) for p in parts])


def confirmation(runs: Sequence[Probe], tier: str, fewest: int, most: int) -> bool | None:
    """Return whether a load's runs confirm that it meets the objectives; None: more are needed.

    Met where even the upper bound of the pooled share late is allowed, with a confidence of 90 %.
    It isn't where the lower bound lies above, or one run's does with 95 %, or a queue grew, or one
    had to be ended early; nor where the most runs don't decide.
    """
    if any(run.word(tier) == "missed" or run.stopped is not None for run in runs):
        return False
    if len(runs) < fewest:
        return None
    bounds = [_bounds(parts) for parts in zip(*(run.late[tier] for run in runs), strict=True)]
    if all(high <= allowed + ROUNDING for _, high, allowed in bounds):
        return True
    if len(runs) >= most or any(low > allowed for low, _, allowed in bounds):
        return False
    return None


def _bounds(parts: Sequence[Late]) -> tuple[float, float, float]:
    """Return the bounds of a pooled share late, and what is allowed; of none late none may be."""
    allowed, share = parts[0].allowed, _share(parts)
    if not share.of:
        return 1.0, 1.0, allowed
    if allowed <= ROUNDING:
        return (share.late / share.of,) * 2 + (allowed,)
    return (*share.late_bounds(SURE_ENOUGH), allowed)
