"""Two figures in pairs: the ratio of B to A with its interval, Holm, and how many pairs it takes.

All on logarithms, since figures differ by factors: of n pairs with d_i = ln(b_i / a_i), mean m and
standard deviation s, the ratio is exp(m), and t = m / (s / sqrt(n)) has n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .batches import Interval
from .quantiles import beta_share, normal, student_t

NOTHING = 1e-12  # of a logarithm: rounding, not spread
MOST_LOG = 700.0  # exp of more is no number
MOST_PAIRS = 10_000


@dataclass(frozen=True, slots=True)
class Paired:
    """B against A in n pairs."""

    pairs: int
    mean: float  # of ln(b / a)
    spread: float | None  # its standard deviation over the pairs; None: one pair

    @property
    def ratio(self) -> float:
        return _exp(self.mean)

    @property
    def error(self) -> float:
        """The standard error of the mean; infinite for one pair."""
        return math.inf if self.spread is None else self.spread / math.sqrt(self.pairs)

    def logs(self, confidence: float) -> tuple[float, float] | None:
        """Return the two-sided t interval of the mean logarithm; None: one pair."""
        if self.spread is None:
            return None
        half = student_t(self.pairs - 1, (1 + confidence) / 2) * self.error if self.spread else 0.0
        return self.mean - half, self.mean + half

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Return the interval of the ratio; None: one pair."""
        found = self.logs(confidence)
        return None if found is None else Interval(_exp(found[0]), _exp(found[1]))

    @property
    def p(self) -> float | None:
        """The two-sided p of no difference; None: one pair.

        Without any spread it is 1 where nothing differs, and 0 where everything differs alike.
        """
        if self.spread is None:
            return None
        if not self.spread:
            return 0.0 if self.mean else 1.0
        freedom, t = self.pairs - 1, self.mean / self.error
        return beta_share(freedom / 2, 0.5, freedom / (freedom + t * t))


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Return B against A, pair by pair. ValueError: no pair, or a figure that isn't above 0."""
    if not a or len(a) != len(b) or not all(0 < x < math.inf for x in (*a, *b)):
        raise ValueError("pairs of positive figures are needed, one at least")
    # The difference of logarithms: a quotient of very large and very small figures has no number.
    logs = [math.log(y) - math.log(x) for x, y in zip(a, b, strict=True)]
    mean = math.fsum(logs) / len(logs)
    mean = mean if abs(mean) > NOTHING else 0.0
    if len(logs) == 1:
        return Paired(1, mean, None)
    spread = math.sqrt(math.fsum((d - mean) ** 2 for d in logs) / (len(logs) - 1))
    return Paired(len(logs), mean, spread if spread > NOTHING else 0.0)


def _exp(log: float) -> float:
    return math.exp(min(max(log, -MOST_LOG), MOST_LOG))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p values as adjusted for there being several, in the same order.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6 (1979): no false alarm among all of them in 95 % of experiments, however they
    depend on each other.
    """
    found, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        found[place] = least
    return found


@dataclass(frozen=True, slots=True)
class Bar:
    """What a claim must pass: a two-sided test, and an interval that lies beyond a limit."""

    level: float  # of the test: 0.05, divided by the number of measures
    beyond: float  # the logarithm beyond which the 95 % interval must lie
    power: float = 0.9

    def least(self, spread: float, pairs: int) -> float:
        """Return the least true |ln(b / a)| that passes with this power."""
        freedom, error = pairs - 1, spread / math.sqrt(pairs)
        test = student_t(freedom, 1 - self.level / 2) * error
        interval = self.beyond + student_t(freedom, 0.975) * error
        return max(test, interval) + student_t(freedom, self.power) * error


def smallest_step(spread: float, pairs: int, bar: Bar) -> float:
    """Return the smallest change, as 0.03, that so many pairs (two or more) would have shown."""
    return math.expm1(min(bar.least(spread, pairs), MOST_LOG))


def pairs_needed(spread: float, step: float, bar: Bar) -> int | None:
    """Return with how many pairs a change by `step` (0.05) would be shown; None: over 10,000."""
    wanted = math.log1p(step)
    return _fewest(lambda pairs: bar.least(spread, pairs) <= wanted)


def pairs_within(spread: float, half: float, confidence: float) -> int | None:
    """Return how many pairs have an interval of a logarithm so wide each way; None: over 10,000."""
    share = (1 + confidence) / 2
    return _fewest(lambda pairs: student_t(pairs - 1, share) * spread / math.sqrt(pairs) <= half)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the fewest pairs, 2 or more, that are enough: once so, more are, too."""
    low, high = 1, MOST_PAIRS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def spread_at_most(spread: float, freedom: int, confidence: float) -> float:
    """Return the upper bound of a standard deviation that was seen with so much freedom.

    By the approximation of Wilson and Hilferty to chi squared (PNAS 17, 1931).
    """
    part = 2 / (9 * freedom)
    chi = freedom * (1 - part + normal(1 - confidence) * math.sqrt(part)) ** 3
    return spread * math.sqrt(freedom / chi)
