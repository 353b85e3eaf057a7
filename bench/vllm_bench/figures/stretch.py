"""The time that figures from samples are of: the steady window, or the run where there is none."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import Facts
from .statistics import floats


@dataclass(frozen=True, slots=True)
class Stretch:
    """Seconds from the run's start."""

    start_s: float
    end_s: float
    steady: bool  # it is the steady window

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    @property
    def words(self) -> str:
        """What it is, for people."""
        what = "steady window" if self.steady else "whole run"
        return f"{what} of {self.length_s:.1f} s"


def stretch_of(facts: Facts) -> Stretch | None:
    """Return the steady window, else the time from the first send to the last end, if any."""
    window = facts.window
    if window is not None:
        return Stretch(window.start_s, window.end_s, steady=True)
    sent = floats(facts.frame["t_sent_s"])
    if sent.size == 0 or facts.span_s is None:
        return None
    return Stretch(float(sent.min()), float(facts.frame["t_end_s"].max()), steady=False)
