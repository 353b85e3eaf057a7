"""What differs between the sides, beside their figures."""

from __future__ import annotations

from ..records.text import ABSENT
from ..summary.environment import environment
from .comparison import Difference
from .pairs import Side


def differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """Return the facts in which the sides' environments differ."""
    ours, theirs = dict(environment(a.runs)), dict(environment(b.runs))
    return tuple(
        Difference(what, ours.get(what, ABSENT), theirs.get(what, ABSENT))
        for what in dict.fromkeys([*ours, *theirs])
        if ours.get(what) != theirs.get(what)
    )
