"""Which of two is better: what changed in each measure, and both load curves over each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..compare import words
from ..compare.comparison import Comparison, Effect, LevelRows, Row, Unit, Word
from ..figures.digits import counted
from ..figures.metrics import TITLES, headline_metric
from ..records.text import ABSENT
from ..summary.levels import Level
from ..verdict.verdict import LEVELS
from .against_load import levels_axis, percentile_lines, throughput_lines, times_of
from .chart import Axis, Chart, Line, Panel, Role, Span, series_colour, times_panel, upright_line

# By word: what the legend calls it, colour, place (of its mark), role. No two share a mark.
LOOKS: dict[Word | None, tuple[str, str, int, Role]] = {
    "faster": ("B is faster", "c0", 2, "points"),
    "slower": ("B is slower", "c1", 4, "points"),
    "equivalent": ("equivalent", "c2", 1, "points"),
    "cannot tell": ("cannot tell", "quiet", 3, "points"),
    "not slower": ("not slower", "c4", 5, "points"),
    None: ("no word", "quiet", 0, "hollow"),
}
FURTHEST = 1.5  # times, or one by it: beyond this an arrow, so that margins can still be seen
NARROWEST = 1.01
LEAST = 1.5  # times the widest margin or limit is always visible, on either side
ROOM = 1.06  # of the furthest, on a logarithmic scale
INSIDE = 0.86  # where a mark stands whose place is beyond the edge
STEPS = (1, 2, 5, 10, 20)  # %, between ticks
LEAST_STEP = 0.17  # of the axis' width
ROW_IN, HEAD_IN, LEGEND_IN = 0.27, 0.3, 0.6  # heights: a row, words over a panel, the legend
LONGEST = 20  # characters of a side's name on the axis
CURVES = (50.0, 95.0)

Side = tuple[str, Sequence[Level]]


def effects_chart(comparison: Comparison) -> Chart | None:
    """Return B's change against A in every measure, a panel a level; None where none is known."""
    shown = [(level, rows) for level in comparison.levels if (rows := _known(level))]
    if not shown:
        return None
    span = _span([(level, row) for level, rows in shown for row in rows])
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
        panel_in=ROW_IN * many + HEAD_IN + LEGEND_IN / len(shown),
    )


def _name(name: str, side: str) -> str:
    return name if len(name) <= LONGEST else side


def _known(level: LevelRows) -> list[Row]:
    return [row for row in level.rows if row.effect is not None]


def _panel(level: LevelRows, rows: Sequence[Row], span: Span, *, several: bool) -> Panel:
    where = f"{words.shown_name(level.scenario)}, " if several else ""
    heights = np.arange(len(rows), dtype=np.float64)
    names = [f"{row.measure.title} {'↑' if row.measure.more_is_better else '↓'}" for row in rows]
    low, high = np.array([_allowed(level, row) for row in rows]).T
    band = "margin" if level.nights is None else "as nights differ"
    ends = (-0.5, len(rows) - 0.5)
    return Panel(
        y=Axis(
            words=f"{where}{level.load.words}, {_many(level)}",
            ticks=list(zip(heights, names, strict=True)),
            span=ends[::-1],  # the first on top
        ),
        lines=[
            Line(name=band, x=low, y=heights, role="bars", until=high, colour="window"),
            upright_line("no change", ends),
            *_marks(level, rows, span),
        ],
        beside=[(at, _beside(row)) for at, row in zip(heights, rows, strict=True)],
    )


def _many(level: LevelRows) -> str:
    if level.nights is not None:
        return counted(level.nights, "night")
    return counted(len(level.pairs), "pair") if level.pairs else "unpaired"


def _allowed(level: LevelRows, row: Row) -> Span:
    """Return the ratios between which nobody would mind; of nights, up to their limit."""
    if level.nights is None:
        return 1 - row.measure.margin, 1 + row.measure.margin
    limit = row.limit / row.a if row.limit and row.a else 1.0
    return min(1.0, limit), max(1.0, limit)


def _marks(level: LevelRows, rows: Sequence[Row], span: Span) -> Iterator[Line]:
    """Return a line of marks for each word that there is."""
    for word, (name, colour, place, role) in LOOKS.items():
        found = [
            (at, row, row.effect) for at, row in enumerate(rows) if row.word == word and row.effect
        ]
        if not found:
            continue
        ends = [_ends(effect, span) for _, _, effect in found]
        yield Line(
            name=name,
            x=np.array([_place(effect.ratio, span) for _, _, effect in found]),
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


def _place(ratio: float, span: Span) -> float:
    """Return where a ratio's mark stands: one beyond an edge a little inside, before its arrow."""
    low, high = span
    return high**INSIDE if ratio > high else low**INSIDE if ratio < low else ratio


def _ends(effect: Effect, span: Span) -> Span:
    """Return an interval's ends: NaN without one, infinite where they lie beyond the edges."""
    low, high = span
    over, under = effect.ratio > high, effect.ratio < low
    found = effect.interval
    if found is None:
        return (-math.inf if under else math.nan, math.inf if over else math.nan)
    left = -math.inf if found.low < low or under else found.low
    right = math.inf if found.high > high or over else found.high
    return left, right


def _span(shown: Sequence[tuple[LevelRows, Row]]) -> Span:
    """Return the ratios at the edges, as far below 1 as above on the axis' scale."""
    effects = [row.effect for _, row in shown if row.effect]
    intervals = [effect.interval for effect in effects if effect.interval]
    ends = [end for one in intervals for end in (one.low, one.high)]
    allowed = [end for level, row in shown for end in _allowed(level, row)]
    furthest = max(
        math.log(NARROWEST),
        *_far(effect.ratio for effect in effects),
        *_far(ends),
        *(LEAST * far for far in _far(allowed)),
    )
    edge = ROOM * min(furthest, math.log(FURTHEST))
    return math.exp(-edge), math.exp(edge)


def _far(ratios: Iterable[float]) -> list[float]:
    return [abs(math.log(ratio)) for ratio in ratios if 0 < ratio < math.inf]


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
    yield f"A: {words.shown_name(comparison.a)}, B: {words.shown_name(comparison.b)}"
    yield "Bars: 95 % intervals, with an arrow where they go on beyond the picture"
    yield "↑ more is better, ↓ less is better"
    if any(effect.interval is None for _, rows in shown for r in rows if (effect := r.effect)):
        yield "Without a bar: no interval, of one pair or none"


def effects_apart(comparison: Comparison) -> list[Chart]:
    """Return a chart a level, each on its own scale, as the page has room for them."""
    found = (effects_chart(replace(comparison, levels=(level,))) for level in comparison.levels)
    titled = [
        replace(chart, title=words.level_title(level), panels=[_untitled(chart.panels[0])])
        for level, chart in zip(comparison.levels, found, strict=True)
        if chart is not None
    ]
    return [replace(chart, note="" if place else chart.note) for place, chart in enumerate(titled)]


def _untitled(panel: Panel) -> Panel:
    return replace(panel, y=replace(panel.y, words=""))


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
    names = times_of(run for level in (*a, *b) for run in level.runs)
    times = [_times(sides, headline_metric(name, ordered[0].load)) for name in names]
    return Chart(
        title=f"{comparison.a} and {comparison.b} against load",
        doc="times and throughput of both at each level, of the runs in pairs",
        note="Bars: 95 % intervals; small dots: each run. Hollow: INVALID, or its runs disagree",
        x=levels_axis([max(both, key=_doubt) for both in zip(a, b, strict=True)]),
        panels=[*(panel for panel in times if panel.lines), _throughput(sides)],
    )


def overlays_apart(comparison: Comparison) -> list[Chart]:
    """Return a chart a figure instead of a panel, as the page has room for them."""
    found = load_overlays(comparison)
    return [
        replace(chart, title=_titled(panel, scenario if len(found) > 1 else ""), panels=[panel])
        for scenario, chart in found
        for panel in chart.panels
    ]


def _titled(panel: Panel, scenario: str) -> str:
    words = panel.y.words.replace("\n", " ")
    return f"{scenario}: {words}" if scenario else words


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
    return times_panel(TITLES[metric], lines)


def _throughput(sides: Sequence[Side]) -> Panel:
    lines = [
        replace(line, colour=series_colour(side))
        for side, (name, levels) in enumerate(sides)
        for line in throughput_lines(levels, name, side * len(CURVES))
    ]
    return Panel(y=Axis(words="output tokens/s", unit="tokens/s"), lines=lines)
