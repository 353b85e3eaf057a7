"""Jain's index of normalised service: did each class get as much as it was promised?

J = (sum x_c)^2 / (C * sum x_c^2), where x_c is what class c got (fresh prompt tokens and twice its
output tokens, as in VTC, Sheng et al., OSDI'24) by its share, or by its streams. 1: as promised;
1 / C: one takes all (Jain, Chiu, Hawe 1984). It means something only while every class has a
request waiting: otherwise each got what it asked for, and J would only repeat the mix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..figures.absent import Why
from ..figures.throughput import Service
from ..records.text import printable
from ..summary.levels import Level

BACKLOGGED = 0.90  # of the window, in which a class must have had a request waiting


@dataclass(frozen=True, slots=True)
class Jain:
    """The index, and what each class got by its weight: 1 is the mean of all."""

    index: float
    normalised: Mapping[str, float]


def jain_index(values: Sequence[float]) -> float | None:
    """Return (sum x)^2 / (n * sum x^2) of figures not below 0; None where all are 0."""
    most = max(values, default=0.0)
    if most <= 0:
        return None
    scaled = [value / most for value in values]  # squares of tiny or huge figures would be lost
    return sum(scaled) ** 2 / (len(scaled) * sum(x * x for x in scaled))


def index_of(level: Level) -> Jain | Why:
    """Return the index over a level's runs, or why there is none."""
    if not level.figures_of:
        return Why(level.invalid or "no run counts")
    of_each: dict[str, list[Service]] = {}
    for name in level.classes:
        found = [run.classes[name].service for run in level.figures_of]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return Why("no steady window, or its tokens have no stamps")
        of_each[name] = known
    why = _why_not(of_each)
    if why is not None:
        return why
    got = {n: sum(one.tokens for one in of) / of[0].weight for n, of in of_each.items()}
    index = jain_index(list(got.values()))
    if index is None:
        return Why("no class was served")
    mean = sum(got.values()) / len(got)
    return Jain(index, {name: value / mean for name, value in got.items()})


def _why_not(of_each: Mapping[str, Sequence[Service]]) -> Why | None:
    if len({one.promise for of in of_each.values() for one in of}) > 1:
        return Why("a share of arrivals and streams of its own are different promises")
    least: dict[str, float] = {}
    for name, of in of_each.items():
        known = [one.waiting for one in of if one.waiting is not None]
        if len(known) < len(of):
            return Why(f"{printable(name, 32)} isn't streamed, so nobody sees when it waits")
        least[name] = min(known)
    name = min(least, key=lambda one: least[one])
    if least[name] >= BACKLOGGED:
        return None
    return Why(
        f"nobody had to wait: {printable(name, 32)} had a request without its first token in "
        f"{100 * least[name]:.0f} % of the window, and {100 * BACKLOGGED:.0f} % are needed of each"
    )
