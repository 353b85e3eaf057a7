"""Which of two is better: what changed in each measure, and both load curves over each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..compare import words
from ..compare.comparison import Comparison, Effect, LevelRows, Row, Unit, Word
from ..figures.digits import counted
from ..figures.metrics import TITLES, headline_metric
from ..records.text import ABSENT
from ..summary.levels import Level
from ..verdict.verdict import LEVELS
from .against_load import TIMES, levels_axis, percentile_lines, throughput_lines
from .chart import Axis, Chart, Line, Panel, Role, Span, log_times, series_colour

# By word: what the legend calls it, colour, place (of its mark), role. No two share a mark.
LOOKS: dict[Word | None, tuple[str, str, int, Role]] = {
    "faster": ("B is faster", "c0", 2, "points"),
    "slower": ("B is slower", "c1", 4, "points"),
    "equivalent": ("equivalent", "c2", 1, "points"),
    "cannot tell": ("cannot tell", "quiet", 3, "points"),
    None: ("no word", "quiet", 0, "hollow"),
}
FURTHEST = 1.5  # times, or one by it: beyond this an arrow, so that margins can still be seen
LEAST = 1.5  # margins that are always visible, on either side
ROOM = 1.06  # of the furthest, on a logarithmic scale
INSIDE = 0.86  # where a mark stands whose place is beyond the edge
STEPS = (1, 2, 5, 10, 20)  # %, between ticks
LEAST_STEP = 0.13  # of the axis' width
ROW_IN, PANEL_IN = 0.27, 1.0  # a row's height, and the least of a panel
LONGEST = 20  # characters of a side's name on the axis
CURVES = (50.0, 95.0)

Side = tuple[str, Sequence[Level]]


def effects_chart(comparison: Comparison) -> Chart | None:
    """Return B's change against A in every measure, a panel a level; None where none is known."""
    shown = [(level, rows) for level in comparison.levels if (rows := _known(level))]
    if not shown:
        return None
    span = _span([row for _, rows in shown for row in rows])
    several = len({level.scenario for level, _ in shown}) > 1
    many = sum(len(rows) for _, rows in shown) / len(shown)
    return Chart(
        title=f"{comparison.b} against {comparison.a}",
        doc="change of each figure from A to B over all pairs, with its 95 % interval",
        note=". ".join(_notes(comparison, shown)),
        x=Axis(
            words=f"change from {_name(comparison.a, 'A')} to {_name(comparison.b, 'B')}",
            ticks=_ticks(span),
            log=True,
            span=span,
        ),
        panels=[_panel(level, rows, span, several=several) for level, rows in shown],
        panel_in=max(PANEL_IN, ROW_IN * many + 0.2),
    )


def _name(name: str, side: str) -> str:
    return name if len(name) <= LONGEST else side


def _known(level: LevelRows) -> list[Row]:
    return [row for row in level.rows if row.effect is not None]


def _panel(level: LevelRows, rows: Sequence[Row], span: Span, *, several: bool) -> Panel:
    where = f"{level.scenario}\n" if several else ""
    pairs = counted(len(level.pairs), "pair") if level.pairs else "unpaired"
    heights = np.arange(len(rows), dtype=np.float64)
    names = [f"{row.measure.title} {'↑' if row.measure.more_is_better else '↓'}" for row in rows]
    margins = np.array([row.measure.margin for row in rows])
    ends = (-0.5, len(rows) - 0.5)
    return Panel(
        y=Axis(
            words=f"{where}{level.load.words}\n{pairs}",
            ticks=list(zip(heights, names, strict=True)),
            span=ends[::-1],  # the first on top
        ),
        lines=[
            _line("margin", 1 - margins, heights, "bars", until=1 + margins, colour="window"),
            _line("no change", np.ones(2), np.array(ends), "thin", colour="ink", legend=None),
            *_marks(level, rows, span),
        ],
        beside=[(at, _beside(row)) for at, row in zip(heights, rows, strict=True)],
    )


def _line(name: str, x: Any, y: Any, role: Role, **look: Any) -> Line:
    return Line(name=name, x=x, y=y, role=role, **look)


def _marks(level: LevelRows, rows: Sequence[Row], span: Span) -> Iterator[Line]:
    """Return a line of marks for each word that there is."""
    low, high = span
    inside = (low**INSIDE, high**INSIDE)
    for word, (name, colour, place, role) in LOOKS.items():
        found = [
            (at, row, row.effect) for at, row in enumerate(rows) if row.word == word and row.effect
        ]
        if not found:
            continue
        ends = [_ends(effect, span) for _, _, effect in found]
        yield Line(
            name=name,
            x=np.clip([effect.ratio for _, _, effect in found], *inside),
            y=np.array([at for at, _, _ in found], dtype=np.float64),
            low=np.array([one for one, _ in ends]),
            high=np.array([other for _, other in ends]),
            flat=True,
            role=role,
            place=place,
            colour=colour,
            words=[_told(level, row) for _, row, _ in found],
            hover="{words}",
        )


def _ends(effect: Effect, span: Span) -> Span:
    """Return an interval's ends: NaN without one, infinite where they lie beyond the edges."""
    low, high = span
    over, under = effect.ratio > high, effect.ratio < low
    found = effect.interval
    if found is None:
        return (math.inf if under else math.nan, math.inf if over else math.nan)
    left = -math.inf if found.low < low or under else found.low
    right = math.inf if found.high > high or over else found.high
    return left, right


def _span(rows: Sequence[Row]) -> Span:
    """Return the ratios at the edges, as far below 1 as above on the axis' scale."""
    effects = [row.effect for row in rows if row.effect]
    ends = [e.interval for e in effects if e.interval is not None]
    ratios = [
        *(e.ratio for e in effects),
        *(end for one in ends for end in (one.low, one.high) if 0 < end < math.inf),
    ]
    furthest = max(abs(math.log(ratio)) for ratio in ratios)
    least = LEAST * max(row.measure.margin for row in rows)
    edge = ROOM * min(max(furthest, least), math.log(FURTHEST))
    return math.exp(-edge), math.exp(edge)


def _ticks(span: Span) -> list[tuple[float, str]]:
    """Return round changes in percent, 0 among them."""
    low, high = (100 * (ratio - 1) for ratio in span)
    apart = LEAST_STEP * math.log(span[1] / span[0])
    for step in STEPS:
        found = [step * n for n in range(math.ceil(low / step), int(high // step) + 1)]
        if math.log((100 + found[-1]) / (100 + found[-2])) > apart:
            break
    return [(1 + change / 100, f"{change:+d} %" if change else "0 %") for change in found]


def _beside(row: Row) -> str:
    change = words.change(replace(row.effect, interval=None)) if row.effect else ABSENT
    return f"{change}\n{row.word}" if row.word else change


def _told(level: LevelRows, row: Row) -> str:
    """Say all that is known of a measure: on hovering."""
    a, b = (words.value(row, figure) for figure in (row.a, row.b))
    word = row.word or f"no word: {row.why}"
    more = f": about {counted(row.more_pairs, 'more pair')}" if row.more_pairs else ""
    return "\n".join(
        [
            f"{words.measure_name(row)} at {level.load.words}: {a} to {b}",
            f"{words.change(row.effect)}, margin {words.share(row.measure.margin)}",
            word + more,
        ]
    )


def _notes(comparison: Comparison, shown: Sequence[tuple[LevelRows, list[Row]]]) -> Iterator[str]:
    yield f"A: {comparison.a}, B: {comparison.b}"
    yield "Bars: 95 % intervals, with an arrow where they go on beyond the picture"
    yield "↑ more is better, ↓ less is better"
    if any(effect.interval is None for _, rows in shown for r in rows if (effect := r.effect)):
        yield "Without a bar: one pair has no interval"


# ---- both load curves ----


def load_overlays(comparison: Comparison) -> list[tuple[str, Chart]]:
    """Return both sides' figures against load by scenario, of those with two levels or more."""
    found: dict[tuple[str, str], list[LevelRows]] = {}
    for level in comparison.levels:
        if level.pairs:
            found.setdefault((level.scenario, level.load.unit), []).append(level)
    return [
        (scenario, _overlay(comparison, levels))
        for (scenario, _), levels in found.items()
        if len(levels) > 1
    ]


def _overlay(comparison: Comparison, levels: Sequence[LevelRows]) -> Chart:
    ordered = sorted(levels, key=lambda level: level.load)
    a = [_level(pair.a for pair in level.pairs) for level in ordered]
    b = [_level(pair.b for pair in level.pairs) for level in ordered]
    sides = ((comparison.a, a), (comparison.b, b))
    times = [_times(sides, headline_metric(name, ordered[0].load)) for name in TIMES]
    return Chart(
        title=f"{comparison.a} and {comparison.b} against load",
        doc="times and throughput of both at each level, of the runs in pairs",
        note="Bars: 95 % intervals; small dots: each run. Hollow: INVALID, or its runs disagree",
        x=levels_axis([max(both, key=_doubt) for both in zip(a, b, strict=True)]),
        panels=[*(panel for panel in times if panel.lines), _throughput(sides)],
    )


def apart(chart: Chart) -> list[Chart]:
    """Return a chart's panels as charts of their own, as the page has room for them."""
    titles = [panel.y.words.replace("\n", " ") for panel in chart.panels]
    return [
        replace(chart, title=f"{title} of both", panels=[panel])
        for title, panel in zip(titles, chart.panels, strict=True)
    ]


def _level(units: Iterable[Unit]) -> Level:
    return Level(tuple(run for unit in units for run in unit.runs))


def _doubt(level: Level) -> int:
    return list(LEVELS.values()).index(level.verdict)


def _times(sides: Sequence[Side], metric: str) -> Panel:
    """Return a metric's panel: two percentiles of each side."""
    looks = itertools.product(enumerate(sides), CURVES)
    lines = [
        replace(line, colour=series_colour(side))
        for place, ((side, (name, levels)), q) in enumerate(looks)
        for line in percentile_lines(levels, f"{name}, p{q:g}", place, metric, q)
    ]
    words = f"{TITLES[metric]} (ms)".replace(" schedule", "\nschedule")
    panel = Panel(y=Axis(words=words, unit="ms"), lines=lines)
    return replace(panel, y=replace(panel.y, log=log_times(panel.heights)))


def _throughput(sides: Sequence[Side]) -> Panel:
    lines = [
        replace(line, colour=series_colour(side))
        for side, (name, levels) in enumerate(sides)
        for line in throughput_lines(levels, name, side * len(CURVES))
    ]
    return Panel(y=Axis(words="output tokens/s", unit="tokens/s"), lines=lines)
