"""How a table for people shows figures: under which heading, beside which others, in which form."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..figures.digits import short
from ..figures.statistics import min_samples
from ..records.text import ABSENT
from ..scenario.load import Unit
from ..summary.summary import RunSummary


class Where(enum.Flag):
    """The tables for people. The report's have a column for each figure, the others join them."""

    TERMINAL = enum.auto()
    MARKDOWN = enum.auto()
    RUNS = enum.auto()  # the report's, one row per run
    SERVER = enum.auto()  # the report's, what was sampled beside a run
    LEVELS = enum.auto()  # the report's, one row per level, over its repeats
    TEXT = TERMINAL | MARKDOWN


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours under one heading: a heading of its own for each, and its column's name."""

    heading: str
    columns: Mapping[str, str]
    where: Where
    unit: Unit | None = None  # of the loads that it is shown for; None: of any
    joint: str = "/"  # between figures that share a cell
    percent: bool = False  # shares from 0 to 1, shown in %
    cell: Callable[[RunSummary], str] | None = None  # how text shows it, if not as its columns

    @property
    def text_heading(self) -> str:
        """The heading over a cell that all of its figures share; in one or two lines."""
        line = "\n" if len(self.columns) > 1 else " "
        return f"{self.heading}{line}{self.joint.join(self.columns)}".strip()


def schedule(run: RunSummary) -> str:
    """Return the rate at which requests were meant to go, its cv, and that at which they went."""
    rates, cv = run.arrival_rates, run.plan("realised_cv")
    spread = f" (cv {short(cv)})" if isinstance(cv, int | float) else ""
    meant = run.realised_rate or (rates.scheduled if rates else None)
    return f"{short(meant)}{spread} / {short(rates.sent if rates else None)}"


def in_flight(run: RunSummary) -> str:
    """Return how many requests were in flight on average, and at most."""
    return f"{run.in_flight.mean:.1f} / {run.in_flight.peak}" if run.in_flight else ABSENT


PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_ms")


def lacking(run: RunSummary, column: str) -> str:
    """Return `n<368` for a percentile that its samples don't allow; nothing for anything else."""
    found = PERCENTILE.fullmatch(column)
    if not found or f"{found['metric']}_ms" not in run.distributions:
        return ""
    return f"n<{min_samples(float(found['percentile']))}"
