"""How many requests were open at each moment, by a sweep over their starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class InFlight:
    """Requests in flight between the first t_sent and the last t_end."""

    mean: float
    peak: int


def in_flight(frame: pd.DataFrame) -> InFlight | None:
    """Return mean and peak of the requests in flight; None where none took any time."""
    sent_rows = frame[frame["t_sent_s"].notna()]
    sent = sent_rows["t_sent_s"].to_numpy(dtype="float64")
    ended = sent_rows["t_end_s"].to_numpy(dtype="float64")
    times = np.concatenate([sent, ended])
    steps = np.repeat([1, -1], sent.size)
    # Where an end and a start share an instant, the end comes first: it freed the slot.
    order = np.lexsort((steps, times))
    times, level = times[order], np.cumsum(steps[order])
    span_s = float(times[-1] - times[0]) if times.size else 0.0
    if span_s <= 0:
        return None
    return InFlight(float(level[:-1] @ np.diff(times)) / span_s, int(level.max()))
