"""At what rate an open loop's requests were meant to go, and at what rate they went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .statistics import Values, floats

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ArrivalRates:
    """Requests a second over the measured arrivals: gaps by the time that they take together."""

    scheduled: float
    sent: float


def arrival_rates(frame: pd.DataFrame) -> ArrivalRates | None:
    """Return both rates; None where fewer than two requests went, or all at once.

    A request that was cancelled before it went is no shortfall: somebody stopped the run.
    """
    meant = frame[frame["t_sent_s"].notna() | (frame["error_kind"] != "cancelled").fillna(True)]
    scheduled = _rate(floats(meant["t_scheduled_s"]))
    sent = _rate(floats(meant["t_sent_s"]))
    return None if scheduled is None or sent is None else ArrivalRates(scheduled, sent)


def _rate(times_s: Values) -> float | None:
    if times_s.size < 2 or times_s.max() <= times_s.min():
        return None
    return float((times_s.size - 1) / (times_s.max() - times_s.min()))
