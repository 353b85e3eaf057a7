"""A chart as a value: what is drawn and what it means, whoever draws it.

Two pens draw any chart: `pen_matplotlib` for pictures, `pen_plotly` for the report's page. Colours
are names in `style`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..figures.statistics import Values

Span = tuple[float, float]
Role = Literal[
    "marked",  # a line with a mark at each point
    "line",  # a line with none
    "steps",  # from each point on, until the next
    "curve",  # steps whose marks are a line of their own
    "thin",  # steps that stay in the background
    "samples",  # a line through readings, which are marked where they are few
    "points",  # marks alone
    "drops",  # marks, and a line from each down to the axis
    "dots",  # many small marks
    "rings",  # small hollow marks
    "crosses",  # of failures
    "bars",  # that lie, each from `x` to `until`; in pictures alone
    "hatched",  # bars of less weight
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """Points, and how they are joined. A `y` of NaN is a gap."""

    name: str
    x: Values
    y: Values
    role: Role = "marked"
    place: int = 0  # which dash and which mark; lines of one place look alike in all panels
    colour: str = "quiet"
    legend: str | None = ""  # what the legend calls it; empty: its name; None: not in the legend
    group: str = ""  # lines that a click in the page's legend hides together; empty: its name
    low: Values | None = None  # the interval around each point, NaN where there is none
    high: Values | None = None
    until: Values | None = None
    hollow: NDArray[np.bool_] | None = None  # marks to doubt
    labels: Sequence[str] = ()  # beside each point; empty: none
    words: Sequence[str] = ()  # more to know of each point, on hovering
    hover: str = ""  # what to say on hovering, of {name}, {x}, {y} and {words}; empty: all of it
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
    """Stretches of the x axis, laid under the lines."""

    name: str
    spans: Sequence[Span]
    role: Literal["window", "aside", "outside", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its words, its unit, and its scale. Neither `span` nor `log`: from 0 on."""

    words: str
    unit: str = ""
    ticks: Sequence[tuple[float, str]] = ()  # places and labels, where they are given
    log: bool = False
    span: Span | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """What is drawn over one y axis."""

    y: Axis
    lines: Sequence[Line] = ()
    rules: Sequence[Rule] = ()
    bands: Sequence[Band] = ()

    @property
    def heights(self) -> Values:
        """Every height that must be seen: of points, intervals and rules."""
        lines = chain.from_iterable((t.y, t.low, t.high) for t in self.lines)
        rules = np.array([rule.at for rule in self.rules if not rule.upright])
        found: Values = np.concatenate([rules, *(part for part in lines if part is not None)])
        known: Values = found[np.isfinite(found)]
        return known


@dataclass(frozen=True, eq=False, kw_only=True)
class Chart:
    """Panels over each other on one x axis."""

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
        """Every place on the x axis that must be seen."""
        return np.concatenate([line.x for line in self.lines] or [np.array([])])


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands over a picture: its title, what was measured, and whether to believe it."""

    title: str
    setup: str
    verdict: str
