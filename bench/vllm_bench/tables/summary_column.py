"""What a column of summary.csv is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..summary.summary import RunSummary

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class SummaryColumn:
    """A column of summary.csv: its name, its meaning, and where its value comes from."""

    name: str
    doc: str
    value: Callable[[RunSummary], Value]
