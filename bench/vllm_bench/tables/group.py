"""How a table for people shows figures: under which heading, in which cell, in which form."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..figures.digits import needs, short
from ..figures.metrics import IN_A_CELL
from ..records.text import ABSENT
from ..scenario.load import Unit
from ..stats.batches import Interval
from ..summary.summary import RunSummary


class Where(enum.Flag):
    """The tables for people. The report has one column per figure, others join some in a cell."""

    TERMINAL = enum.auto()
    MARKDOWN = enum.auto()
    RUNS = enum.auto()  # the report's, one row per run
    SERVER = enum.auto()  # the report's, samples of server and GPUs
    LEVELS = enum.auto()  # the report's, one row per level, over its repeats
    TEXT = TERMINAL | MARKDOWN


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring columns under one heading: the heading of each, and the column's name."""

    heading: str
    columns: Mapping[str, str]
    where: Where
    unit: Unit | None = None  # only for loads in this unit; None: for all
    joint: str = "/"  # between figures that share a cell
    percent: bool = False  # shares from 0 to 1, shown in %
    cell: Callable[[RunSummary], str] | None = (
        None  # the text of the cell, if it isn't just the columns
    )

    @property
    def text_heading(self) -> str:
        """The heading of the cell that shows all of its figures; in one or two lines."""
        line = "\n" if len(self.columns) > 1 else " "
        return f"{self.heading}{line}{self.joint.join(self.columns)}".strip()


def schedule(run: RunSummary) -> str:
    """Return the rate of the schedule, its cv, and the rate at which requests were sent."""
    rates, cv = run.arrival_rates, run.plan("realised_cv")
    spread = f" (cv {short(cv)})" if isinstance(cv, int | float) else ""
    meant = run.realised_rate or (rates.scheduled if rates else None)
    return f"{short(meant)}{spread} / {short(rates.sent if rates else None)}"


def in_flight(run: RunSummary) -> str:
    """Return the mean and the largest number of requests in flight."""
    return f"{run.in_flight.mean:.1f} / {run.in_flight.peak}" if run.in_flight else ABSENT


def interval_words(found: Interval, show: Callable[[float], str] = short) -> str:
    """Return `100 to 140`, or `≥ 100` where there is no upper bound."""
    return f"{show(found.low)} to {show(found.high)}" if found.bounded else f"≥ {show(found.low)}"


PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_ms")


def lacking(run: RunSummary, column: str) -> str:
    """Return why there is no such figure: `needs 368`, `not streamed`; nothing where unknown."""
    found = PERCENTILE.fullmatch(column)
    if found and f"{found['metric']}_ms" in run.distributions:
        return needs(float(found["percentile"]))
    why = next((run.absent[m] for m in run.absent if column.startswith(m.removesuffix("ms"))), "")
    return IN_A_CELL.get(why, "no stamps") if why else ""
