"""Which of two is better: the section that a report has where its runs have two labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..charts.effects import effects_apart, overlays_apart
from ..charts.pen_plotly import for_page
from ..compare import words
from ..compare.compare import compare
from ..compare.comparison import LevelRows, Row
from ..compare.pairs import Side
from ..records.text import ABSENT, printable
from ..summary.summary import RunSummary
from .tables import Cell, Column, table

LEAST_P = 0.001


def two_sides(runs: Sequence[RunSummary]) -> tuple[Side, Side] | None:
    """Return A and B, A the one that was measured first; None: the runs have one label, or many.

    In an experiment a run's label is its side. Runs without any belong to neither, nor do those of
    one class alone, whose label is the class.
    """
    found: dict[str, list[RunSummary]] = {}
    for run in sorted(runs, key=lambda run: run.began_s):
        label = run.info.experiment.get("side") if run.info else None
        if run.plan("alone") is None and (label := label or run.setting("label")):
            found.setdefault(str(label), []).append(run)
    if len(found) != 2:
        return None
    a, b = (Side(label, tuple(of_one)) for label, of_one in found.items())
    return a, b


def which_is_better(runs: Sequence[RunSummary]) -> dict[str, Any] | None:
    """Return all that the page says of the two; None where there aren't two."""
    sides = two_sides(runs)
    if sides is None:
        return None
    found = compare(*sides)
    return {
        "a": words.shown_name(found.a),
        "b": words.shown_name(found.b),
        "answer": words.answer(found),
        "differences": [
            tuple(map(printable, (one.what, one.a, one.b))) for one in found.differences
        ],
        "levels": [_level(level) for level in found.levels],
        "notes": [printable(note, 500) for note in found.notes],
        "charts": {
            "effects": [for_page(chart) for chart in effects_apart(found)],
            "overlays": [for_page(chart) for chart in overlays_apart(found)],
        },
    }


def _level(level: LevelRows) -> dict[str, Any]:
    return {
        "title": words.level_title(level),
        "table": table(ROWS, level.rows),
        "lines": list(words.level_lines(level, smallest=False)),
    }


def _word(row: Row) -> Cell:
    if row.word is None:
        return Cell(ABSENT)
    more = f"about {row.more_pairs} more" if row.more_pairs else ""
    return Cell(row.word, row.word, more, look="pill")


def _change(row: Row) -> Cell:
    change, _, interval = words.change(row.effect).partition(" (")
    sort = row.effect.change if row.effect else None
    return Cell(change, sort, interval.removesuffix(")"))


def _figure(row: Row, figure: float | None) -> Cell:
    return Cell(words.value(row, figure), figure)


def _chance(row: Row) -> Cell:
    if row.p is None:
        return Cell(ABSENT)
    return Cell("<0.001" if row.p < LEAST_P else f"{row.p:.3f}", row.p)


def _share(fraction: float | None) -> Cell:
    return Cell(words.share(fraction), fraction)


ROWS: tuple[Column[Row], ...] = (
    Column("measure", "what is compared", lambda row: Cell(words.measure_name(row)), look=""),
    Column(
        "word",
        "faster is better: more tokens/s, less latency, fewer J. Faster and slower: p < .05 by "
        "Holm over the level's measures, and the 95 % interval lies beyond half the margin. "
        "Equivalent: the 96 % interval lies within the margin. Else: cannot tell, and about how "
        "many more pairs would",
        _word,
        look="",
    ),
    Column("change", "of B against A, below it the 95 % interval over the pairs", _change),
    Column("A", "geometric mean over the pairs", lambda row: _figure(row, row.a)),
    Column("B", "geometric mean over the pairs", lambda row: _figure(row, row.b)),
    Column("margin", "a change that nobody would mind", lambda row: _share(row.measure.margin)),
    Column(
        "could show",
        "the smallest change that these pairs could have shown",
        lambda row: _share(row.smallest),
    ),
    Column("p", "two-sided, adjusted by Holm's method over the level's measures", _chance),
)
