"""What a search has found, tier by tier, whether or not it came to its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .probe import Probe, confirmation
from .steps import FEWEST, MOST, End, Space, believed, bracket, confirming

# Searches in virtual time were more than 5 % too high in at most 5 %, with so many requests counted
# by their confirmation; with fewer the answer is off by more, as their root.
OFF, OF = 0.05, 4500


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How much load one tier's objectives allow."""

    tier: str
    load: float | None  # the highest that met; None: none did
    confirmed: int  # by how many runs; 0: by one run of the search
    sure: float | None  # the truth isn't below it, with 95 %; None: nothing was confirmed
    beyond: Probe | None  # the run at the lowest load that didn't
    short: tuple[str, ...]  # objectives on rates that aren't met at the answer, nor below it
    end: End | Literal["unfinished"]

    @property
    def leaves_open(self) -> bool:
        """Whether all runs beyond were within, and only too few to be sure of it."""
        return self.beyond is not None and self.beyond.holds(self.tier)


def answers(space: Space, probes: Sequence[Probe]) -> tuple[Found, ...]:
    """Return what the runs so far say of each tier."""
    return tuple(answer(space, tier, probes) for tier in space.tiers)


def answer(space: Space, tier: str, probes: Sequence[Probe]) -> Found:
    """Return what the runs so far say of one tier."""
    now = bracket(space, tier, probes)
    own = [p for p in confirming(tier, probes) if p.load == now.low]
    confirmed = now.low is not None and confirmation(own, tier, FEWEST, MOST) is True
    at = [p for p in believed(probes) if p.load == now.low]
    over = [p for p in believed(probes) if p.load == now.high and p.word(tier) != "met"]
    return Found(
        tier=tier,
        load=now.low,
        confirmed=len(own) if confirmed else 0,
        sure=_sure(space, now.low, own) if now.low is not None and confirmed else None,
        beyond=max(over, key=lambda p: (p.over is not None, p.worst(tier).share), default=None),
        short=at[-1].short.get(tier, ()) if at else (),
        end=now.end or "unfinished",
    )


def _sure(space: Space, load: float, runs: Sequence[Probe]) -> float:
    """Return the load that the truth isn't below, with 95 %: as searches came out (METHOD.md)."""
    counted = max(1, sum(run.counted for run in runs))
    least = load / (1 + OFF * math.sqrt(max(1.0, OF / counted)))
    return math.floor(least) if space.whole else least
