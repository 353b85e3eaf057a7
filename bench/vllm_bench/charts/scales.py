"""Which axes are logarithmic, in the report and in the pictures alike."""

from __future__ import annotations

from collections.abc import Sequence

MANY = 1000  # 1, 2, 5 of each decade run into each other over more than three of them


def log_times(values: Sequence[float]) -> bool:
    """Return whether times span more than a decade; else their axis begins at 0."""
    return min(values) > 0 and max(values) / min(values) > 10


def log_loads(values: Sequence[float]) -> bool:
    """Return whether levels of load are mostly multiples of each other."""
    return min(values) > 0 and max(values) / min(values) >= 4
