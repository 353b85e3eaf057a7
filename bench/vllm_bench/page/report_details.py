"""What the report tells at length: turns of conversations, every figure, clocks."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.statistics import min_samples
from ..records.column import Value
from ..records.text import ABSENT
from ..summary.summary import RunSummary, Turn
from ..tables.columns import SUMMARY_COLUMNS
from .tables import RUN, Cell, Column, Table, number

TURN_COLUMNS = (
    Column("", "turn", "turn of a conversation, from 1"),
    Column("", "n", "successes of this turn"),
    Column("TTFT ms", "p50", "median time to first token of the turn"),
    Column("TTFT ms", "p95", "95th percentile of it"),
    Column("prompt", "tokens", "mean prompt tokens: the history grows"),
    Column("prompt", "cached %", "of them found in the prefix cache, where replies say it"),
)


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
        _percentile(turn, turn.ttft_p50_ms, 50),
        _percentile(turn, turn.ttft_p95_ms, 95),
        _known(turn.prompt_tokens_mean),
        _known(cached),
    ]


def _percentile(turn: Turn, value: float | None, percentile: float) -> Cell:
    if value is None and turn.n < min_samples(percentile):
        return Cell(f"n<{min_samples(percentile)}")
    return _known(value)


def _known(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(number(value), value)


def clocks(summaries: Sequence[RunSummary]) -> str | None:
    """Return how far the wall clock moved against the monotonic one, in the worst of the runs."""
    drifts = []
    for summary in summaries:
        if summary.info is not None and summary.info.clock_end is not None:
            start, end = summary.info.clock_start, summary.info.clock_end
            monotonic_s = (end.monotonic_ns - start.monotonic_ns) / 1e9
            drifts.append(1000 * (end.wall_s - start.wall_s - monotonic_s))
    if not drifts:
        return None
    worst = max(drifts, key=abs)
    return f"wall clock against monotonic: {worst:+.2f} ms over a run, at most"


def figures_table(runs: Sequence[RunSummary]) -> Table:
    """Return a row a column of summary.csv and a column a run: everything there is."""
    columns = [
        Column("", "figure", "its name in summary.csv", number=False),
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
