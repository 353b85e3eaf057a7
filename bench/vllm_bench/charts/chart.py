"""A chart as a value: what is drawn and what it means.

Two modules draw any chart: `pen_matplotlib` for pictures, `pen_plotly` for the report's page.
Colours are names in `style`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from ..stats.batches import Values

Span = tuple[float, float]
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
    "bars",  # horizontal, each from `x` to `until`; only in pictures
    "hatched",  # bars that matter less
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
    high: Values | None = None
    until: Values | None = None
    labels: Sequence[str] = ()  # next to each point; empty: none
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

    @property
    def heights(self) -> Values:
        """All y values that must be visible: of points, intervals and rules."""
        lines = chain.from_iterable((t.y, t.low, t.high) for t in self.lines)
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
