"""What a search has found, tier by tier, whether or not it came to its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .probe import Probe, pooled
from .steps import End, Space, believed, bracket, confirming


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How much load one tier's objectives allow."""

    tier: str
    load: float | None  # the highest that met; None: none did
    confirmed: int  # by how many runs; 0: by one run of the search
    sure: float | None  # up to which one-sided bounds of 95 % show it; None: no load
    beyond: Probe | None  # the run at the lowest load that didn't
    end: End | Literal["unfinished"]


def answers(space: Space, probes: Sequence[Probe]) -> tuple[Found, ...]:
    """Return what the runs so far say of each tier."""
    return tuple(answer(space, tier, probes) for tier in space.tiers)


def answer(space: Space, tier: str, probes: Sequence[Probe]) -> Found:
    """Return what the runs so far say of one tier."""
    now = bracket(space, tier, probes)
    whole = [p for p in confirming(tier, probes) if p.load == now.low]
    over = [p for p in believed(probes) if p.load == now.high and p.word(tier) != "met"]
    return Found(
        tier=tier,
        load=now.low,
        confirmed=len(whole) if now.end in ("confirmed", "up to high") else 0,
        sure=max(_shown(tier, probes, now.low), default=None),
        beyond=_worst(tier, over),
        end=now.end or "unfinished",
    )


def _shown(tier: str, probes: Sequence[Probe], most: float | None) -> Iterator[float]:
    """Yield the loads up to `most` that were shown to meet the objectives, with 95 %.

    Each by its own runs; those that confirm are pooled.
    """
    for load in {p.load for p in believed(probes) if most is not None and p.load <= most}:
        runs = [p for p in believed(probes) if p.load == load and p.over is None]
        own = list(confirming(tier, runs)) or runs[-1:]
        if own and all(late.word == "met" for late in pooled([p.late[tier] for p in own])):
            yield load


def _worst(tier: str, runs: Sequence[Probe]) -> Probe | None:
    return max(runs, key=lambda p: (p.over is not None, p.worst(tier).share), default=None)
