"""When a verdict is right: the largest error of a headline figure against the run's word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

WRONG, RIGHT = 0.10, 0.02  # a figure that is off by more must not be VALID, by less not INVALID


@dataclass(frozen=True, slots=True)
class Off:
    """The figure that is off by most, and by how much: its error as a share of what is true."""

    figure: str
    share: float  # infinite: it isn't shown, or what users saw was without end

    def __str__(self) -> str:
        if math.isinf(self.share):
            return f"{self.figure} {'not shown' if self.share > 0 else 'of some for ever'}"
        return f"{self.figure} {100 * self.share:+.1f} %"


def furthest_off(shown: Mapping[str, float | None], true: Mapping[str, float | None]) -> Off | None:
    """Return the figure that is off by most; None where no figure is both shown and true.

    A p95 of too few requests isn't shown and isn't held against the run; a median has to be shown.
    """
    offs = [
        Off(figure, share)
        for figure, value in shown.items()
        if (share := _share(figure, value, true.get(figure))) is not None
    ]
    return max(offs, key=lambda off: abs(off.share), default=None)


def _share(figure: str, shown: float | None, true: float | None) -> float | None:
    if true is None:
        return None
    if shown is None:
        return None if figure.endswith("p95") else math.inf
    if math.isinf(true):
        return -math.inf
    return shown / true - 1 if true else (math.inf if shown else 0.0)


def is_right(off: Off | None, level: str) -> bool:
    """Return whether a run's word suits its error; between the limits any word does."""
    error = abs(off.share) if off else 0.0
    return not (error > WRONG and level == "VALID") and not (error < RIGHT and level == "INVALID")
