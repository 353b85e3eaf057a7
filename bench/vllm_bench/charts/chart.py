"""A chart as a value: what is drawn and what it means; and the look that all charts share.

Two modules draw any chart: `pen_matplotlib` for pictures, `pen_plotly` for the report's page.
A chart's colours are names, which each theme, light or dark, has a colour for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np

from ..stats.batches import Values

LINE_ROWS = 10  # a panel of lines is as high as so many rows beside which words stand

Span = tuple[float, float]
Side = Literal["right", "left", "above", "below"]
Role = Literal[
    "marked",  # a line with a mark at each point
    "line",  # a line with none
    "steps",  # from each point on, until the next
    "thin",  # steps that stay in the background
    "samples",  # a line through readings, which are marked where they are few
    "points",  # marks alone
    "drops",  # marks, and a line from each down to the axis
    "dots",  # many small marks
    "repeats",  # small pale marks
    "hollow",  # hollow marks alone: of what isn't believed
    "crosses",  # of failures
    "bars",  # horizontal, each from `x` to `until`
    "hatched",  # bars that matter less; only in pictures
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """Points, and how they are joined. A `y` of NaN is a gap."""

    name: str
    x: Values
    y: Values
    role: Role = "marked"
    place: int = 0  # which dash and which mark; lines of one place look the same in all panels
    colour: str = "quiet"
    legend: str | None = ""  # what the legend calls it; empty: its name; None: not in the legend
    group: str = ""  # a click in the page's legend hides lines of one group; empty: its name
    low: Values | None = None  # the interval around each point, NaN where there is none
    high: Values | None = None  # infinite: an arrow
    flat: bool = False  # intervals lie along x, and may be infinite on both sides
    until: Values | None = None
    labels: Sequence[str] = ()  # next to each point; empty: none
    side: Side = "right"  # on which side of their points labels stand
    words: Sequence[str] = ()  # more about each point, on hovering
    hover: str = ""  # text on hovering, with {name}, {x}, {y}, {words}; empty: all of them
    of: int = 0  # how many points there were, where some were left out

    @property
    def label(self) -> str | None:
        """What the legend calls it."""
        return self.name if self.legend == "" else self.legend


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line: an objective (at a height), a knee (upright, at a place)."""

    name: str
    at: float
    upright: bool = False
    words: str = ""  # on hovering


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Parts of the x axis, shaded under the lines."""

    name: str
    spans: Sequence[Span]
    role: Literal["window", "aside", "outside", "throttled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its words, its unit and its scale. Without `span` and `log` it starts at 0."""

    words: str
    unit: str = ""
    ticks: Sequence[tuple[float, str]] = ()  # places and labels, where they are fixed
    log: bool = False
    span: Span | None = None
    key: str = ""  # what marks at its ticks mean


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """What is drawn over one y axis."""

    y: Axis
    lines: Sequence[Line] = ()
    rules: Sequence[Rule] = ()
    bands: Sequence[Band] = ()
    beside: Sequence[tuple[float, str]] = ()  # words right of it, each at a height, in short lines

    @property
    def heights(self) -> Values:
        """All y values that must be visible: of points, intervals and rules."""
        lines = chain.from_iterable((t.y, *(() if t.flat else (t.low, t.high))) for t in self.lines)
        rules = np.array([rule.at for rule in self.rules if not rule.upright])
        found: Values = np.concatenate([rules, *(part for part in lines if part is not None)])
        known: Values = found[np.isfinite(found)]
        return known


@dataclass(frozen=True, eq=False, kw_only=True)
class Chart:
    """Panels, one above the other, on one x axis."""

    title: str
    doc: str
    note: str = ""  # what it leaves out, and how to read it
    x: Axis
    panels: Sequence[Panel]
    wide: bool = False
    panel_in: float | None = None  # a panel's height in a picture

    @property
    def lines(self) -> list[Line]:
        """The lines of all panels."""
        return [line for panel in self.panels for line in panel.lines]

    @property
    def reach(self) -> Values:
        """All x values that must be visible."""
        return np.concatenate([line.x for line in self.lines] or [np.array([])])


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a picture: its title, what was measured, and the verdict."""

    title: str
    setup: str
    verdict: str


def times_panel(title: str, lines: Sequence[Line], rules: Sequence[Rule] = ()) -> Panel:
    """Return the panel of a time (ms), on a logarithmic axis where its values span a decade."""
    words = f"{title} (ms)".replace(" schedule", "\nschedule")
    panel = Panel(y=Axis(words=words, unit="ms"), lines=lines, rules=rules)
    return replace(panel, y=replace(panel.y, log=log_times(panel.heights)))


def upright_line(name: str, ends: Span) -> Line:
    """Return the line of a ratio of 1, behind the rows of a panel."""
    x, y = np.ones(2), np.array(ends)
    return Line(name=name, x=x, y=y, role="thin", colour="ink", legend=None)


# ---- the look: colours, dashes, marks, scales ----

Theme = Mapping[str, str]


def _numbered(letter: str, colours: str) -> Theme:
    return {f"{letter}{place}": colour for place, colour in enumerate(colours.split())}


# c0 to c6: Okabe and Ito (2008), distinct with any colour vision; their yellow is too pale for a
# line on white, and black can't be seen on black. s0 to s7: levels of load, from cool to warm.
# Lines that differ in colour differ in dashes and marks as well.
LIGHT: Theme = {
    **_numbered("c", "#0072B2 #D55E00 #009E73 #000000 #56B4E9 #CC79A7 #E69F00"),
    **_numbered("s", "#3F66CF #0F86AD #0B8D6F #648713 #AB7D00 #D1630F #C9364F #8D3F95"),
    "ink": "#1A1A1A",
    "paper": "#FFFFFF",
    "quiet": "#555555",  # less important: subtitles, other runs
    "pale": "#9DB7C9",  # requests that figures are not of
    "grid": "#DDDDDD",
    "error": "#B00020",
    "wait": "#E69F00",  # of a bar: before its first token; these three differ in grey as well
    "decode": "#0072B2",
    "pause": "#C3E0F4",  # between two tokens that stood out
    "window": "#E3F0FA",  # background of the steady window
    "aside": "#DADADA",  # background of the time outside it
}
DARK: Theme = {
    **_numbered("c", "#56B4E9 #E69F00 #1FC493 #F2F2F2 #F0E442 #E08FBF #FF8A50"),
    **_numbered("s", "#8AA6FF #52BFE3 #45C9A6 #A6C34C #E0B63A #F79A50 #F77F93 #D393DA"),
    "ink": "#E8E8E8",
    "paper": "#14171C",
    "quiet": "#A8ADB5",
    "pale": "#5A7183",
    "grid": "#343A44",
    "error": "#FF6B6B",
    "wait": "#F0B840",
    "decode": "#3388C4",
    "pause": "#1D425C",
    "window": "#1A344E",
    "aside": "#24282F",
}
SERIES, LEVELS = 7, 8
# The names in matplotlib, and those in plotly.
DASHES = (
    ("-", "solid"),
    ("--", "dash"),
    ("-.", "dashdot"),
    (":", "dot"),
    ((0, (5, 1, 1, 1, 1, 1)), "longdashdot"),
)
MARKS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
)
CROSSES = (
    ("x", "x-thin"),
    ("+", "cross-thin"),
    ("1", "y-down"),
    ("2", "y-up"),
    ("3", "y-left"),
    ("4", "y-right"),
)
FONT = "DejaVu Sans"  # comes with matplotlib
# For names in Chinese, Japanese and Korean: those that systems bring along, in this order.
OTHER_FONTS = (
    *(f"Noto Sans CJK {country}" for country in ("SC", "JP", "KR", "TC")),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "Source Han Sans"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "Unifont"),
)
MANY = 1000  # ticks at 1, 2, 5 overlap over more than three decades


def series_colour(place: int) -> str:
    """Return the colour of one of several lines."""
    return f"c{place % SERIES}"


def level_colour(place: int, levels: int) -> str:
    """Return the colour of a level of load; the fewer there are, the further apart they are."""
    if levels > LEVELS:
        return f"s{place % LEVELS}"
    return f"s{round(place * (LEVELS - 1) / max(levels - 1, 1))}"


def css(theme: Theme) -> str:
    """Return the colours as variables for the page, each by its own name."""
    return " ".join(f"--{name}: {colour};" for name, colour in theme.items())


def log_times(values: Values) -> bool:
    """Return whether times span more than a decade; else their axis begins at 0."""
    return values.size > 0 and bool(np.min(values) > 0 and np.max(values) / np.min(values) > 10)


def few_decades(values: Values, many: float) -> bool:
    """Return whether a logarithmic axis has room, or need, for ticks at 2 and 5 too.

    Values that span less than a factor of `many` leave room; without two powers of ten among them
    their axis would have one tick, or none.
    """
    low, high = np.log10(np.min(values)), np.log10(np.max(values))
    return bool(high - low < np.log10(many) or np.floor(high) - np.ceil(low) < 1)


def log_loads(values: Values) -> bool:
    """Return whether levels of load are mostly multiples of each other."""
    return bool(np.min(values) > 0 and np.max(values) / np.min(values) >= 4)
