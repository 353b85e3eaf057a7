"""Numbers as cells of a table: as many digits as matter, and why where there is none."""

from __future__ import annotations

from ..records.text import ABSENT
from .statistics import Distribution, min_samples


def short(value: float | None) -> str:
    """Return three digits that matter, all of them from 100 on: 1.23, 12.3, 123, 1234."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def counted(count: int, what: str) -> str:
    """Return `1 request`, `20 requests`."""
    return f"{count} {what}{'s' * (count != 1)}"


def percentile(found: Distribution | None, percentile: float) -> str:
    """Return a percentile, or `n<368` where it would need 368 samples."""
    if found is None:
        return ABSENT
    return allowed(found.percentile(percentile), percentile)


def allowed(value: float | None, percentile: float) -> str:
    """Return a percentile's value, or how many samples it would have needed."""
    return f"n<{min_samples(percentile)}" if value is None else short(value)


def spread(found: Distribution | None) -> str:
    """Return `mean (min to max)` of whole things, or the one value that all have."""
    if found is None:
        return ABSENT
    if found.min == found.max:
        return f"{found.min:.0f}"
    return f"{found.mean:.1f} ({found.min:.0f} to {found.max:.0f})"
