"""One new figure against n older ones: where the next one will lie, if nothing changed.

With m and s the mean and standard deviation of n logarithms, (y - m) / (s sqrt(1 + 1/n)) of one
more has Student's t with n - 1 degrees of freedom (Hahn and Meeker, Statistical Intervals, 4.8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .paired import NOTHING
from .quantiles import beta_share, student_t


@dataclass(frozen=True, slots=True)
class Prediction:
    """How far a new figure lies above n older ones, and how far it may by chance."""

    n: int
    above: float  # ln(new / their geometric mean)
    spread: float  # standard deviation of their logarithms

    @property
    def error(self) -> float:
        return self.spread * math.sqrt(1 + 1 / self.n)

    @property
    def p(self) -> float:
        """The one-sided p of a figure so far above; without any spread 0, 1 where not above."""
        if not self.error:
            return float(self.above <= 0)
        freedom, t = self.n - 1, self.above / self.error
        tails = beta_share(freedom / 2, 0.5, freedom / (freedom + t * t))
        return tails / 2 if t > 0 else 1 - tails / 2

    def limit(self, level: float) -> float:
        """Return the logarithm above which a new figure lies with this probability."""
        return student_t(self.n - 1, 1 - level) * self.error


def prediction(older: Sequence[float], new: float) -> Prediction:
    """Return a new figure against older ones. ValueError: fewer than 2, or one not above 0."""
    if len(older) < 2 or not all(0 < x < math.inf for x in (*older, new)):
        raise ValueError("two older figures are needed, and all must be above 0")
    logs = [math.log(x) for x in older]
    mean = math.fsum(logs) / len(logs)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (len(logs) - 1))
    above = math.log(new) - mean
    return Prediction(
        len(logs),
        above if abs(above) > NOTHING else 0.0,
        spread if spread > NOTHING else 0.0,
    )
