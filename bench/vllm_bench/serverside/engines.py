"""The engines of one server apart: who ran how much, and who nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..figures.absent import Why
from ..figures.facts import Facts
from ..records.beside.samples import ALL
from .over_time import Samples, judged_rows

ENOUGH = 2.0  # requests running per engine: with fewer, one may be without work by chance
MIN_READINGS = 5


@dataclass(frozen=True, slots=True)
class Engines:
    """Requests running on each engine in the time that is judged, means over time."""

    running: Mapping[str, float]
    idle: tuple[str, ...]  # that ran nothing, while there was work for all

    @property
    def balance(self) -> float | None:
        """The busiest over the mean of all; None where none ran anything."""
        mean = sum(self.running.values()) / len(self.running)
        return max(self.running.values()) / mean if mean else None


def engines_of(facts: Facts) -> Engines | None:
    """Return the engines of a run; None where too few readings tell of them."""
    rows = judged_rows(facts, facts.server_rows, "server_metrics", "the server's metrics")
    if isinstance(rows, Why):
        return None
    running: dict[str, float] = {}
    idle: list[str] = []
    for name, own in rows.by("engine"):
        samples = Samples.of(own["t_s"], own["running"])
        if name == ALL or samples.mean is None or samples.values.size < MIN_READINGS:
            continue
        running[name] = samples.mean
        made = own["generation_tokens_total"]
        if samples.peak == 0 and not np.nansum(np.abs(np.diff(made))):
            idle.append(name)
    if not running:
        return None
    enough = sum(running.values()) >= ENOUGH * len(running)
    return Engines(running, tuple(idle) if enough and len(running) > 1 else ())
