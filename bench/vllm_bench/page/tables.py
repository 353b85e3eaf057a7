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
from ..records.text import ABSENT, printable
from ..summary.levels import Level, Series
from ..summary.summary import RunSummary, Turn
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
    look: str = ""  # "pill", "met", "missed"
    more: str = ""  # on hovering


@dataclass(frozen=True, slots=True)
class Column:
    """A heading under its group, its meaning, and how its cells look."""

    group: str
    heading: str
    doc: str
    look: str = "number"  # "words": long ones; "": short ones


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; the first column is the row's name."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return (group, how many columns) of neighbours."""
        return [(name, len(list(some))) for name, some in groupby(self.columns, lambda c: c.group)]


Get = Callable[[Row], Cell]
Columns = Sequence[tuple[Column, Get[Row]]]

VALUES = {column.name: column.value for column in SUMMARY_COLUMNS}
DOCS = dict(summary_column_docs())
LEVEL_DOCS = dict(level_column_docs())
FROM_SCHEDULE = "_from_schedule"  # in the names of times that say most in an open loop alone
PERCENTILE = re.compile(r"(?P<metric>\w+)_p(?P<percentile>\d+)_ms")


RUN: tuple[Column, Get[RunSummary]] = (
    Column("", "run", "level of load, and when the run started", look=""),
    lambda run: Cell(run.load.words, run.load.value, run.started_utc or ""),
)


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Return a row a run with its headline figures; what no run has is left out."""
    columns: Columns[RunSummary] = [
        RUN,
        (
            Column("", "verdict", DOCS["verdict"], look=""),
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
) -> Columns[RunSummary]:
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


def _table(columns: Columns[Row], rows: Sequence[Row]) -> Table:
    return Table([c for c, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def _verdict(level: str, reasons: str) -> Cell:
    return Cell(level, level, reasons, look="pill")


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
    columns: Columns[LevelRow] = [
        (
            Column("", "load", LEVEL_DOCS["load"], look=""),
            lambda row: Cell(row.level.load.words, row.level.load.value),
        ),
        (
            Column("", "runs", LEVEL_DOCS["runs"]),
            lambda row: Cell(str(len(row.level.runs)), len(row.level.runs)),
        ),
        (
            Column("", "verdict", LEVEL_DOCS["verdict"], look=""),
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
) -> Iterable[tuple[Column, Get[LevelRow]]]:
    if any(row.level.attainment for row in rows):
        yield (
            Column("objectives", "met by %", f"attainment: {LEVEL_DOCS['attainment']}"),
            lambda row: _attained(row.level),
        )
        yield Column("objectives", "goodput/s", LEVEL_DOCS["goodput_per_s"]), _goodput
    if any(row.state for row in rows):
        yield (
            Column("", "TTFT is", LEVEL_DOCS["ttft_stability"], look=""),
            lambda row: Cell(row.state or ABSENT, row.state),
        )


def _level_cell(level: Level, name: str, figure: Callable[[RunSummary], float | None]) -> Cell:
    over = level.over_repeats(figure)
    if over is None:
        lacking = next((text for run in level.runs if (text := _lacking(run, name))), "")
        return Cell(lacking or ABSENT)
    ends = over.interval
    small = f"{number(ends.low)} to {number(ends.high)}" if ends else ""
    return Cell(number(over.centre), over.centre, small)


def _attained(level: Level) -> Cell:
    found = level.attainment
    if found is None or found.share is None or found.interval is None:
        return Cell(ABSENT)
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return Cell(f"{100 * found.share:.3g}", found.share, f"{low:.3g} to {high:.3g}")


def _goodput(row: LevelRow) -> Cell:
    found = row.level.attainment
    return _known(found.goodput_per_s if found else None)


TURN_COLUMNS = (
    Column("", "turn", "turn of a conversation, from 1"),
    Column("", "n", "successes of this turn"),
    Column("TTFT ms", "p50", "median time to first token of the turn"),
    Column("TTFT ms", "p95", "95th percentile of it"),
    Column("prompt", "tokens", "mean prompt tokens: the history grows"),
    Column("prompt", "cached %", "of them found in the prefix cache, where replies say it"),
)
ERROR_COLUMNS = (
    Column("", "load", "level of load", look=""),
    Column("", "kind", "kind of failure", look=""),
    Column("", "requests", "how many failed so"),
    Column("", "first message", "the first one's words", look="words"),
)
ERROR_WORDS = 300


def turns_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return a row a run and turn; None where no run had conversations."""
    name, cell = RUN
    rows = [[cell(run), *_turn_cells(turn)] for run in runs for turn in run.turns]
    return Table([name, *TURN_COLUMNS], rows) if rows else None


def _turn_cells(turn: Turn) -> list[Cell]:
    cached = None if turn.cached_share is None else 100 * turn.cached_share
    return [
        Cell(str(turn.turn), turn.turn),
        Cell(f"{turn.n:,}", turn.n),
        _known(turn.ttft_p50_ms, "" if turn.n >= min_samples(50) else f"n<{min_samples(50)}"),
        _known(turn.ttft_p95_ms, "" if turn.n >= min_samples(95) else f"n<{min_samples(95)}"),
        _known(turn.prompt_tokens_mean),
        _known(cached),
    ]


def errors_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return a row a run and kind of failure; None where none failed."""
    rows = [
        [
            Cell(run.load.words),
            Cell(printable(group.kind)),
            Cell(str(group.count)),
            Cell(printable(group.example, ERROR_WORDS)),
        ]
        for run in runs
        for group in run.errors
    ]
    return Table(ERROR_COLUMNS, rows) if rows else None


def figures_table(runs: Sequence[RunSummary]) -> Table:
    """Return a row a column of summary.csv and a column a run: everything there is."""
    columns = [
        Column("", "figure", "its name in summary.csv", look=""),
        *(Column("", run.load.words, run.run_id) for run in runs),
    ]
    rows = []
    for column in SUMMARY_COLUMNS:
        values = [column.value(run) for run in runs]
        if any(value is not None for value in values):
            name = Cell(column.name, column.name, column.doc)
            rows.append([name, *(_plain(value) for value in values)])
    return Table(columns, rows)


def _plain(value: Value) -> Cell:
    if value is None:
        return Cell(ABSENT)
    if isinstance(value, float):
        return Cell(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}", value)
    return Cell(str(value), value)


def _known(value: float | None, lacking: str = "") -> Cell:
    return Cell(lacking or ABSENT) if value is None else Cell(number(value), value)
