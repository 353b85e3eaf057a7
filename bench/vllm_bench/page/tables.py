"""The report's tables: runs, levels, and every figure there is; a cell knows how it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from ..figures import digits as cells
from ..records.column import Column as Figure
from ..records.column import Value
from ..records.text import ABSENT
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary
from ..tables.columns import BY_NAME, REPEATED, groups_of
from ..tables.group import Group, Where, lacking
from ..tables.level_columns import LEVEL_COLUMNS, LevelRow, level_rows, over_repeats

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


LEVEL_DOCS = {column.name: column.doc for column in LEVEL_COLUMNS}
FIGURES = {figure.name: figure for figure in REPEATED}


RUN: tuple[Column, Callable[[RunSummary], Cell]] = (
    Column("", "run", "level of load, and when the run started", number=False),
    lambda run: Cell(run.load.words, run.load.value, run.started_utc or ""),
)


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Return a row a run with its headline figures; what no run has is left out."""
    columns: list[tuple[Column, Callable[[RunSummary], Cell]]] = [
        RUN,
        (
            Column("", "verdict", BY_NAME["verdict"].doc, number=False),
            lambda run: _verdict(run.verdict.level, run.verdict.reasons),
        ),
        (
            Column("", "ok", "requests that succeeded, of all that ended"),
            lambda run: Cell(f"{run.succeeded:,}/{run.requests:,}", run.success_rate),
        ),
        *_figure_columns(groups_of(Where.RUNS, runs), runs),
    ]
    return _table(columns, runs)


def beside_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return a row a run with what was seen of the server and its GPUs; None: nobody looked."""
    watched = any(run.gpu_side.expected for run in runs)
    columns = [
        column
        for group in groups_of(Where.SERVER, runs)
        if watched or not any(name.startswith("gpu_") for name in group.columns.values())
        for column in _figure_columns([group], runs)
    ]
    return _table([RUN, *columns], runs) if columns else None


def _figure_columns(
    groups: Sequence[Group], runs: Sequence[RunSummary]
) -> list[tuple[Column, Callable[[RunSummary], Cell]]]:
    """Return columns of summary.csv under their headings; those without any value left out.

    A percentile without the samples for it stays: that it can't be told is told.
    """
    return [
        (
            Column(group.heading, heading, BY_NAME[name].doc),
            lambda run, name=name, group=group: _run_cell(  # type: ignore[misc]
                run, name, percent=group.percent
            ),
        )
        for group in groups
        for heading, name in group.columns.items()
        if any(BY_NAME[name].value(run) is not None or lacking(run, name) for run in runs)
    ]


def _table(columns: Sequence[tuple[Column, Callable[[Row], Cell]]], rows: Sequence[Row]) -> Table:
    return Table([c for c, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def _verdict(level: str, reasons: str) -> Cell:
    return Cell(level, level, reasons, verdict=True)


def _run_cell(run: RunSummary, name: str, *, percent: bool) -> Cell:
    value = BY_NAME[name].value(run)
    if isinstance(value, int | float):
        return Cell(number(100 * value if percent else value), value)
    return Cell(value or lacking(run, name) or ABSENT)


def number(value: float) -> str:
    """Return a figure with as many digits as matter, thousands apart."""
    if isinstance(value, int):
        return f"{value:,}"
    text = cells.short(value)
    return f"{float(text):,.0f}" if abs(value) >= 1000 else text


def levels_table(series: Series) -> Table:
    """Return a row a level: its runs together, each figure with its interval over them."""
    rows = level_rows([series])
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
            (
                Column(group.heading, heading, f"{LEVEL_DOCS[name]}; below it the 95 % interval"),
                lambda row, figure=FIGURES[name]: _level_cell(row.level, figure),
            )
            for group in groups_of(Where.LEVELS, series.runs)
            for heading, name in group.columns.items()
            if any(_level_cell(row.level, FIGURES[name]).text != ABSENT for row in rows)
        ),
    ]
    return _table(columns, rows)


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


def _level_cell(level: Level, figure: Figure[RunSummary]) -> Cell:
    over = over_repeats(level, figure)
    if over is None:
        short = next((text for run in level.runs if (text := lacking(run, figure.name))), "")
        return Cell(short or ABSENT)
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
