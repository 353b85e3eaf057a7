"""The report's tables: runs, levels, and every figure there is; a cell knows how it is sorted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from ..figures import digits as cells
from ..figures.metrics import TITLES
from ..figures.statistics import min_samples
from ..records.text import ABSENT
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary
from ..tables.columns import SUMMARY_COLUMNS, summary_column_docs
from ..tables.level_columns import FIGURES, LevelRow, level_column_docs, level_rows
from ..tables.report_headings import BESIDE_FIGURES, LEVEL_NAMES, RUN_FIGURES, SHARES
from ..tables.summary_column import Value

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, what it is sorted by (None: last), and a second, small line."""

    text: str
    sort: Value = None
    small: str = ""
    verdict: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A heading under its group, its meaning, and whether it holds numbers."""

    group: str
    heading: str
    doc: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; the first column is the row's name."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return (group, how many columns) of neighbours."""
        return [(name, len(list(some))) for name, some in groupby(self.columns, lambda c: c.group)]


VALUES = {column.name: column.value for column in SUMMARY_COLUMNS}
DOCS = dict(summary_column_docs())
LEVEL_DOCS = dict(level_column_docs())
FROM_SCHEDULE = "_from_schedule"  # in the names of times that say most in an open loop alone
PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_ms")


RUN: tuple[Column, Callable[[RunSummary], Cell]] = (
    Column("", "run", "level of load, and when the run started", number=False),
    lambda run: Cell(run.load.words, run.load.value, run.started_utc or ""),
)


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Return a row a run with its headline figures; what no run has is left out."""
    columns: list[tuple[Column, Callable[[RunSummary], Cell]]] = [
        RUN,
        (
            Column("", "verdict", DOCS["verdict"], number=False),
            lambda run: _verdict(run.verdict.level, run.verdict.reasons),
        ),
        (
            Column("", "ok", "requests that succeeded, of all that ended"),
            lambda run: Cell(f"{run.succeeded:,}/{run.requests:,}", run.success_rate),
        ),
        *_figure_columns(RUN_FIGURES, runs),
    ]
    return _table(columns, runs)


def beside_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return a row a run with what was seen of the server and its GPUs; None: nobody looked."""
    watched = any(run.gpu_side.expected for run in runs)
    figures = [f for f in BESIDE_FIGURES if watched or not f[2].startswith("gpu_")]
    columns = _figure_columns(figures, runs)
    return _table([RUN, *columns], runs) if columns else None


def _figure_columns(
    figures: Sequence[tuple[str, str, str]], runs: Sequence[RunSummary]
) -> list[tuple[Column, Callable[[RunSummary], Cell]]]:
    """Return columns of summary.csv under their headings; those without any value left out.

    A percentile without the samples for it stays: that it can't be told is told.
    """
    is_open = any(run.load.is_open for run in runs)
    return [
        (
            Column(_origin(group, name, is_open), heading, DOCS[name]),
            lambda run, name=name: _run_cell(run, name),  # type: ignore[misc]
        )
        for group, heading, name in figures
        if (is_open or FROM_SCHEDULE not in name)
        and any(VALUES[name](run) is not None or _lacking(run, name) for run in runs)
    ]


def _origin(group: str, name: str, is_open: bool) -> str:
    """Return a group's heading; in an open loop times from the send stand beside others."""
    from_send = is_open and name.startswith(("ttft_p", "latency_p"))
    return f"{group} from send" if from_send else group


def _table(columns: Sequence[tuple[Column, Callable[[Row], Cell]]], rows: Sequence[Row]) -> Table:
    return Table([c for c, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def _verdict(level: str, reasons: str) -> Cell:
    return Cell(level, level, reasons, verdict=True)


def _run_cell(run: RunSummary, name: str) -> Cell:
    value = VALUES[name](run)
    if isinstance(value, int | float):
        return Cell(number(100 * value if name in SHARES else value), value)
    lacking = _lacking(run, name)
    return Cell(str(value) if value is not None else lacking or ABSENT)


def number(value: float) -> str:
    """Return a figure with as many digits as matter, thousands apart."""
    if isinstance(value, int):
        return f"{value:,}"
    text = cells.short(value)
    return f"{float(text):,.0f}" if abs(value) >= 1000 else text


def _lacking(run: RunSummary, name: str) -> str:
    """Return `n<368` for a percentile that its samples don't allow; nothing for anything else."""
    found = PERCENTILE.fullmatch(name)
    if not found or f"{found['metric']}_ms" not in run.distributions:
        return ""
    return f"n<{min_samples(float(found['percentile']))}"


def levels_table(series: Series) -> Table:
    """Return a row a level: its runs together, each figure with its interval over them."""
    rows, is_open = level_rows([series]), series.levels[0].load.is_open
    columns: list[tuple[Column, Callable[[LevelRow], Cell]]] = [
        (
            Column("", "load", LEVEL_DOCS["load"], number=False),
            lambda row: Cell(row.level.load.words, row.level.load.value),
        ),
        (
            Column("", "runs", LEVEL_DOCS["runs"]),
            lambda row: Cell(str(len(row.level.runs)), len(row.level.runs)),
        ),
        (
            Column("", "verdict", LEVEL_DOCS["verdict"], number=False),
            lambda row: _verdict(row.level.verdict, row.level.reasons),
        ),
        *_judged_columns(rows),
        *(
            (_level_column(name, is_open), lambda r, n=name, f=figure: _level_cell(r.level, n, f))
            for name, _, figure in sorted(FIGURES, key=lambda f: FROM_SCHEDULE not in f[0])
            if (is_open or FROM_SCHEDULE not in name)
            and any(_level_cell(row.level, name, figure).text != ABSENT for row in rows)
        ),
    ]
    return _table(columns, rows)


def _level_column(name: str, is_open: bool) -> Column:
    group, heading = LEVEL_NAMES.get(name, ("", name))
    if found := PERCENTILE.fullmatch(name):
        title, _, origin = TITLES[found["metric"] + "_ms"].partition(" from ")
        group = f"{title} ms from {origin}" if origin else _origin(f"{title} ms", name, is_open)
        heading = f"p{found['percentile']}"
    return Column(group, heading, f"{LEVEL_DOCS[name]}; below it the 95 % interval")


def _judged_columns(
    rows: Sequence[LevelRow],
) -> Iterable[tuple[Column, Callable[[LevelRow], Cell]]]:
    if any(row.level.attainment for row in rows):
        yield (
            Column("objectives", "met by %", f"attainment: {LEVEL_DOCS['attainment']}"),
            lambda row: _attained(row.level),
        )
        yield Column("objectives", "goodput/s", LEVEL_DOCS["goodput_per_s"]), _goodput
    if any(row.state for row in rows):
        yield (
            Column("", "TTFT is", LEVEL_DOCS["ttft_stability"], number=False),
            lambda row: Cell(row.state or ABSENT, row.state),
        )


def _level_cell(level: Level, name: str, figure: Callable[[RunSummary], float | None]) -> Cell:
    over = level.over_repeats(figure)
    if over is None:
        lacking = next((text for run in level.runs if (text := _lacking(run, name))), "")
        return Cell(lacking or ABSENT)
    small = ""
    if over.interval is not None:
        small = f"{number(over.interval.low)} to {number(over.interval.high)}"
    return Cell(number(over.centre), over.centre, small)


def _attained(level: Level) -> Cell:
    found = level.attainment
    if found is None or found.share is None or found.interval is None:
        return Cell(ABSENT)
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return Cell(f"{100 * found.share:.3g}", found.share, f"{low:.3g} to {high:.3g}")


def _goodput(row: LevelRow) -> Cell:
    found = row.level.attainment
    value = found.goodput_per_s if found else None
    return Cell(ABSENT) if value is None else Cell(number(value), value)
