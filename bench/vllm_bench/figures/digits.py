"""Numbers as text for tables, with the digits that matter; Markdown's tables and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..records.text import ABSENT
from ..stats.batches import Interval
from ..stats.distribution import Distribution, min_samples


def short(value: float | None) -> str:
    """Return a number with three digits, more from 1000 on: 1.23, 12.3, 123, 1234."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def counted(count: int, what: str) -> str:
    """Return `1 request`, `20 requests`."""
    return f"{count} {what}{'s' * (count != 1)}"


def allowed(value: float | None, percentile: float) -> str:
    """Return a percentile's value, or `needs 368` where it would take 368 samples."""
    return needs(percentile) if value is None else short(value)


def needs(percentile: float) -> str:
    """Return what a table shows where there are too few samples for a percentile."""
    return f"needs {min_samples(percentile)}"


def interval_words(found: Interval, show: Callable[[float], str] = short) -> str:
    """Return `100 to 140`, or `≥ 100` where there is no upper bound."""
    return f"{show(found.low)} to {show(found.high)}" if found.bounded else f"≥ {show(found.low)}"


def spread(found: Distribution | None) -> str:
    """Return `mean (min to max)` of counts, or the one value that all have."""
    if found is None:
        return ABSENT
    if found.min == found.max:
        return f"{found.min:.0f}"
    return f"{found.mean:.1f} ({found.min:.0f} to {found.max:.0f})"


def markdown_table(rows: Iterable[Iterable[str]]) -> str:
    """Return rows as a Markdown table; the first is the headings, the second their rule."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def markdown_list(items: Iterable[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {item}" for item in items)
