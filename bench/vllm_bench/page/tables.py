"""The report's tables. A column makes a cell of each row; a cell has the value that sorts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Generic, TypeVar

from ..figures.digits import interval_words, needs, short
from ..figures.machines.side import MachineSide
from ..figures.metrics import TITLES
from ..records.row import Column as Figure
from ..records.row import Value, follow
from ..records.text import ABSENT, printable
from ..stats.distribution import min_samples
from ..summary.levels import Series
from ..summary.summary import ErrorGroup, RunSummary, Turn
from ..tables.columns import BY_NAME, REPEATED, SUMMARY_COLUMNS
from ..tables.group import Group, Where, groups_of, lacking, mark, word_on
from ..tables.level_columns import LEVEL_COLUMNS, LevelRow, level_rows, over_runs
from ..tables.level_lines import level_words
from ..tables.machines.machine_lines import lost, shown

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, its value for sorting (None: last), and a second, small line."""

    text: str
    sort: Value = None
    small: str = ""
    look: str = ""  # "pill", "met", "missed"
    more: str = ""  # on hovering


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A heading and its group, its meaning, how to make a row's cell, and the look of its cells."""

    heading: str
    doc: str
    cell: Callable[[Row], Cell]
    group: str = ""
    look: str = "number"  # "words": long text; "": short text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; the first column is the row's name."""

    columns: Sequence[Column[Any]]
    rows: Sequence[Sequence[Cell]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return (group, how many columns) of neighbours."""
        return [(name, len(list(some))) for name, some in groupby(self.columns, lambda c: c.group)]


def table(columns: Iterable[Column[Row]], rows: Sequence[Row]) -> Table:
    """Return rows under the columns that have a value in any of them."""
    cells = {column: [column.cell(row) for row in rows] for column in columns}
    there = [column for column, of in cells.items() if any(cell.text != ABSENT for cell in of)]
    return Table(there, list(zip(*(cells[column] for column in there), strict=True)))


def number(value: float) -> str:
    """Return a figure with the digits that matter and commas between thousands."""
    if isinstance(value, int):
        return f"{value:,}"
    text = short(value)
    return f"{float(text):,.0f}" if abs(value) >= 1000 else text


def figure_cell(value: Value, otherwise: str = "", small: str = "") -> Cell:
    """Return a figure's cell; where there is no figure, a cell with `absent`."""
    if isinstance(value, int | float):
        return Cell(number(value), value, small)
    return Cell(otherwise or ABSENT)


def _number(heading: str, doc: str, path: str, group: str = "") -> Column[Any]:
    """Return a column of the values at a path of attributes."""
    return Column(heading, doc, lambda row: figure_cell(follow(row, path)), group)


def _words(heading: str, doc: str, path: str, look: str = "") -> Column[Any]:
    """Return a column of the untrusted text at a path of attributes."""
    return Column(heading, doc, lambda row: Cell(printable(follow(row, path))), look=look)


def marked(cell: Cell, runs: Sequence[RunSummary], column: str) -> Cell:
    """Return a figure's cell with its mark where a doubt is about such figures alone."""
    sign = mark(runs, column) if cell.sort is not None else ""
    return replace(cell, text=f"{cell.text}{sign}", more=word_on(runs, column)) if sign else cell


# ---- runs ----


def _verdict(level: str, reasons: str) -> Cell:
    return Cell(level, level, reasons, look="pill")


def _run(run: RunSummary) -> Cell:
    name = "" if run.class_ is None else f", {printable(run.class_, 32)}"
    return Cell(f"{run.load.words}{name}", run.load.value, run.started_utc or "")


RUN = Column("run", "level of load, and when the run started", _run, look="")
RUNS: tuple[Column[RunSummary], ...] = (
    RUN,
    Column(
        "verdict",
        BY_NAME["verdict"].doc,
        lambda run: _verdict(run.verdict.level, run.verdict.reasons),
        look="",
    ),
    Column(
        "ok",
        "requests that succeeded, of all that ended",
        lambda run: Cell(f"{run.succeeded:,}/{run.requests:,}", run.success_rate),
    ),
)


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Return one row per run with its headline figures."""
    return table([*RUNS, *_figures(groups_of(Where.RUNS, runs))], runs)


def server_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return one row per run with figures of server and GPUs; None: nothing was sampled."""
    watched = any(run.gpu_side.expected for run in runs)
    groups = [
        group
        for group in groups_of(Where.SERVER, runs)
        if watched or not any(name.startswith("gpu_") for name in group.columns.values())
    ]
    found = table([RUN, *_figures(groups)], runs)
    return found if len(found.columns) > 1 else None


def _figures(groups: Iterable[Group]) -> Iterator[Column[RunSummary]]:
    """Return columns of summary.csv under their headings."""
    for group in groups:
        for heading, name in group.columns.items():
            yield Column(heading, BY_NAME[name].doc, _figure_cell(group, name), group.heading)


def _figure_cell(group: Group, name: str) -> Callable[[RunSummary], Cell]:
    """A column stays if only samples are missing for its percentile: cells then say so."""

    def cell(run: RunSummary) -> Cell:
        value = BY_NAME[name].value(run)
        if group.percent and isinstance(value, int | float):
            return marked(Cell(number(100 * value), value), [run], name)
        if isinstance(value, str):
            return Cell(value)
        return marked(figure_cell(value, lacking(run, name)), [run], name)

    return cell


def figures_table(runs: Sequence[RunSummary]) -> Table:
    """Return one row per column of summary.csv and a column per run."""
    name = Column("figure", "its name in summary.csv", _name, look="")
    columns = [name, *(Column(_run(run).text, run.run_id, _plain(run)) for run in runs)]
    figures = [f for f in SUMMARY_COLUMNS if any(f.value(run) is not None for run in runs)]
    return table(columns, figures)


def _name(figure: Figure[RunSummary]) -> Cell:
    return Cell(figure.name, figure.name, figure.doc)


def _plain(run: RunSummary) -> Callable[[Figure[RunSummary]], Cell]:
    def cell(figure: Figure[RunSummary]) -> Cell:
        value = figure.value(run)
        if isinstance(value, float):
            return Cell(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}", value)
        return Cell(ABSENT if value is None else str(value), value)

    return cell


# ---- levels ----

DOCS = {column.name: column.doc for column in LEVEL_COLUMNS}
FIGURES = {figure.name: figure for figure in REPEATED}


def _attained(row: LevelRow) -> Cell:
    found = row.level.attainment
    if found is None or found.share is None or found.interval is None:
        return Cell(ABSENT)
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return Cell(f"{100 * found.share:.3g}", found.share, f"{low:.3g} to {high:.3g}")


def _runs(row: LevelRow) -> Cell:
    counted, every = len(row.level.figures_of), len(row.level.runs)
    return Cell(str(every) if counted == every else f"{counted} of {every}", counted)


LEVELS: tuple[Column[LevelRow], ...] = (
    Column("load", DOCS["load"], lambda r: Cell(level_words(r.level), r.level.load.value), look=""),
    Column("runs", f"{DOCS['runs_counted']}, of all", _runs),
    Column(
        "verdict", DOCS["verdict"], lambda r: _verdict(r.level.verdict, r.level.reasons), look=""
    ),
    Column("met by %", f"attainment: {DOCS['attainment']}", _attained, "objectives"),
    _number("goodput/s", DOCS["goodput_per_s"], "level.attainment.goodput_per_s", "objectives"),
    Column("TTFT is", DOCS["ttft_stability"], lambda r: Cell(r.state or ABSENT, r.state), look=""),
    Column("cached %", DOCS["prefix_cache_hit_rate"], lambda r: _percent(r.level.hit_rate)),
)


def levels_table(series: Series) -> Table:
    """Return one row per level: each figure over its runs, with its interval."""
    figures = (
        Column(
            heading,
            f"{DOCS[name]}; below it the 95 % interval",
            _level_cell(FIGURES[name]),
            group.heading,
        )
        for group in groups_of(Where.LEVELS, series.runs)
        for heading, name in group.columns.items()
    )
    return table([*LEVELS, *figures], level_rows([series]))


def _level_cell(figure: Figure[RunSummary]) -> Callable[[LevelRow], Cell]:
    def cell(row: LevelRow) -> Cell:
        over = over_runs(row.level, figure)
        if over is None:
            short_of = (lacking(run, figure.name) for run in row.level.figures_of)
            return Cell(next(filter(None, short_of), ABSENT))
        small = interval_words(over.interval, number) if over.interval else ""
        return marked(figure_cell(over.centre, small=small), row.level.figures_of, figure.name)

    return cell


# ---- turns and errors ----


@dataclass(frozen=True, slots=True)
class OfRun(Generic[Row]):
    """A turn or a kind of failure, and its run."""

    run: RunSummary
    part: Row


TTFT, PROMPT = "TTFT ms", "prompt"
TURNS: tuple[Column[OfRun[Turn]], ...] = (
    Column(RUN.heading, RUN.doc, lambda row: _run(row.run), look=""),
    _words("turn", "turn of its session from 1, or several; or any after a gap", "part.turn"),
    _number("n", "successes of this turn", "part.n"),
    Column("p50", "median TTFT of the turn", lambda row: _turn_time(row.part, 50), TTFT),
    Column("p95", "95th percentile of it", lambda row: _turn_time(row.part, 95), TTFT),
    _number("tokens", "mean prompt tokens: the history grows", "part.prompt_tokens_mean", PROMPT),
    Column(
        "cached %",
        "share of them found in the prefix cache, if replies say so",
        lambda row: _percent(row.part.cached_share),
        PROMPT,
    ),
)
ERRORS: tuple[Column[OfRun[ErrorGroup]], ...] = (
    _words("load", "level of load", "run.load.words"),
    _words("kind", "kind of failure", "part.kind"),
    _number("requests", "how many failed in this way", "part.count"),
    _words("first message", "error message of the first one", "part.example", look="words"),
)


MACHINES: tuple[Column[OfRun[MachineSide]], ...] = (
    Column(RUN.heading, RUN.doc, lambda row: _run(row.run), look=""),
    _words("machine", "by its host name", "part.machine"),
    _number("rows", "its requests that ended, however they did", "part.rows"),
    _number("failed", "its requests that failed", "part.failed"),
    _number("p50", "median of its requests", "part.p50_ms", TTFT),
    _number("p95", "95th percentile of them", "part.p95_ms", TTFT),
    _number("requests/s", "its successes in the steady window", "part.requests_per_s"),
    _number("loop lag p99 ms", "of its worst sending process", "part.loop_lag_p99_ms"),
    _number("stamp error ms", "how far its stamps can be off, at p99", "part.stamp_error_ms"),
    _number("clock ± ms", "how well its clock is known by the head's", "part.offset_error_ms"),
    Column("lost", "how it was lost", lambda row: Cell(lost(row.part)), look="words"),
)


def machines_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return one row per run and machine; None where each was sent by one alone."""
    rows = [OfRun(run, side) for run in runs for side in shown(run)]
    # TTFT, with a schedule from it; or latency, where nothing is streamed.
    times = f"{' or '.join(dict.fromkeys(TITLES[row.part.metric] for row in rows))} ms"
    columns = [replace(c, group=times) if c.group == TTFT else c for c in MACHINES]
    return table(columns, rows) if rows else None


def turns_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return one row per run and turn; None where no run had conversations."""
    rows = [OfRun(run, turn) for run in runs for turn in run.turns]
    return table(TURNS, rows) if rows else None


def errors_table(runs: Sequence[RunSummary]) -> Table | None:
    """Return one row per run and kind of failure; None where none failed."""
    rows = [OfRun(run, group) for run in runs for group in run.errors]
    return table(ERRORS, rows) if rows else None


def _turn_time(turn: Turn, percentile: int) -> Cell:
    value = turn.ttft_p50_ms if percentile == 50 else turn.ttft_p95_ms
    return figure_cell(value, needs(percentile) if turn.n < min_samples(percentile) else "")


def _percent(share: float | None) -> Cell:
    return figure_cell(None if share is None else 100 * share)
