"""The part of a run that is judged: between its start-up and its drain."""

from __future__ import annotations

from dataclasses import dataclass

from .in_flight import InFlight
from .load import Load

# Below it a closed loop hasn't reached its load yet, or is running out of requests. Not all of
# it, since a stream whose last request has ended waits while the others go on.
HELD_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds from the run's start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


def steady_window(flight: InFlight | None, load: Load) -> Window | None:
    """Return the window in which the load was held; None where it never was.

    A closed loop's lasts from the moment that 95 % of its streams are first busy to the last
    such moment: the dip of a stream between two requests doesn't end it.
    """
    held = flight.held(HELD_SHARE * load.value) if flight and load.value > 0 else None
    return Window(*held) if held and held[1] > held[0] else None
