"""Tokens/s of a user against the server's, a point per level of load.

Of one series, or of several configurations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...records.text import printable
from ...summary.capacity import ParetoPoint, dominates, gpu_count, pareto
from ...summary.levels import Series, levels_of
from ...summary.summary import RunSummary
from ...tables.group import MARKS
from ..chart import SERIES, Axis, Chart, Line, Panel, Side, Span, series_colour

ROW_IN = 0.27  # a row's height
MOST_NAME = 30  # characters
USER_SPEED = "output tokens/s for a user (1000 / TPOT p50)"
END = 1.15  # of the axes of several configurations, times the largest value
# Half a mark, from a mark to its label, a label's height: as parts of an axis.
MARK, NEAR, TALL = 0.012, 0.015, 0.045

# Labels closer than this would overlap: as parts of the largest values.
NEAR_X, NEAR_Y = 0.25, 0.06
CHARACTER, GAP = 0.015, 0.04  # width of a character, gap before a label: as parts of the axis


def pareto_chart(series: Series) -> Chart | None:
    """Return the server's rate over a user's; per GPU where the number of GPUs is known.

    None where fewer than two levels have both.
    """
    gpus = gpu_count(series.runs)
    points = pareto(series.levels, gpus)
    if len(points) < 2:
        return None
    whose = "per GPU" if gpus else "of the server"
    counted = f"(of {gpus})" if gpus else "\n(its GPUs were not counted)"
    rate = Axis(words=f"output tokens/s {whose} {counted}", unit=f"tokens/s {whose}")
    on = [(p.per_user, p.per_gpu) for p in points if p.on_frontier]
    lines = [*_frontier(on), *_kinds(points)]
    return Chart(
        title="Speed for a user, throughput of the server",
        doc=f"output tokens/s {whose} over tokens/s of the median request (1000 / TPOT p50): up "
        "and to the right is better, and load moves a server along the frontier",
        note=". ".join(_notes(series)),
        x=Axis(
            words=USER_SPEED,
            unit="tokens/s for a user",
            span=(0, max(_right_end(line) for line in lines)),
        ),
        panels=[Panel(y=rate, lines=lines)],
    )


def _notes(series: Series) -> Iterator[str]:
    yield "Each point is a level of load. ?: its figures are SUSPECT"
    absent = [level.load.words for level in series.levels if not level.figures_of]
    if absent:
        yield f"Not drawn, since INVALID: {', '.join(absent)}"


def _frontier(points: Iterable[tuple[float, float]]) -> Iterator[Line]:
    on = sorted(points)
    if len(on) > 1:
        x, y = np.array(on).T
        name = "frontier: more of one costs some of the other"
        yield Line(name=name, x=x, y=y, role="line", place=1, colour="c0")


def _kinds(points: Sequence[ParetoPoint]) -> Iterator[Line]:
    """Return a line of marks for each kind of point that there is."""
    labels = dict(_labels(points))
    for name, found, colour, place in (
        ("on the frontier", [p for p in points if p.on_frontier], "c0", 5),
        ("another level is better in both", [p for p in points if not p.on_frontier], "quiet", 6),
    ):
        if found:
            yield Line(
                name=name,
                x=np.array([p.per_user for p in found]),
                y=np.array([p.per_gpu for p in found]),
                role="points",
                place=place,
                colour=colour,
                labels=[labels.get(p, "") for p in found],
                words=[p.load.words for p in found],
            )


def _labels(points: Sequence[ParetoPoint]) -> Iterator[tuple[ParetoPoint, str]]:
    """Return the labels of the points; points that are close together share one."""
    right, top = max(p.per_user for p in points), max(p.per_gpu for p in points)
    groups: list[list[ParetoPoint]] = []
    for point in points:
        for group in groups:
            near_x = abs(group[0].per_user - point.per_user) < NEAR_X * right
            if near_x and abs(group[0].per_gpu - point.per_gpu) < NEAR_Y * top:
                group.append(point)
                break
        else:
            groups.append([point])
    for group in groups:
        *first, last = [p.load.number + _doubt(p) for p in group]
        one, unit = group[0].load.words + _doubt(group[0]), group[0].load.unit
        words = f"{', '.join(first)} and {last} {unit}" if first else one
        yield max(group, key=lambda p: p.per_user), words


def _doubt(point: ParetoPoint) -> str:
    return "" if point.verdict == "VALID" else f" {MARKS[point.verdict]}"


def _right_end(line: Line) -> float:
    """Return the end of the axis that leaves room for the points' labels."""
    rooms = [1 - CHARACTER * len(words) - GAP for words in line.labels] or [1]
    return float(np.max(line.x / np.maximum(rooms, 0.4)))


# ---- several configurations ----


@dataclass(frozen=True, slots=True)
class _Label:
    """A box of words: from where to where, as parts of the axes."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: _Label) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and self.bottom < other.top and other.bottom < self.top


def configurations_chart(configurations: Mapping[str, Sequence[RunSummary]]) -> Chart | None:
    """Return each configuration's levels, by name, and the frontier of all; per GPU where known.

    None where no configuration has a level with both figures.
    """
    gpus = [gpu_count(runs) for runs in configurations.values() if runs]
    whose = "of the server" if None in gpus else "per GPU"
    found = {
        name: points
        for name, runs in configurations.items()
        if (points := pareto(levels_of(runs), None if None in gpus else gpu_count(runs)))
    }
    if not found:
        return None
    every = [p for points in found.values() for p in points]
    edges = END * max(p.per_user for p in every), END * max(p.per_gpu for p in every)
    counted = "\n(its GPUs were not counted)" if None in gpus else ""
    rate = Axis(
        words=f"output tokens/s {whose}{counted}", unit=f"tokens/s {whose}", span=(0, edges[1])
    )
    absent = [_short(name) for name in configurations if name not in found]
    notes = ["Each line is a configuration, each mark a level of load. ?: a level is SUSPECT"]
    notes += [f"Not drawn, without both figures: {', '.join(absent)}"] if absent else []
    return Chart(
        title="Speed for a user, throughput of the server",
        doc=f"output tokens/s {whose} over tokens/s of the median request (1000 / TPOT p50), of "
        "each configuration: up and to the right is better",
        note=". ".join(notes),
        x=Axis(words=USER_SPEED, unit="tokens/s for a user", span=(0, edges[0])),
        panels=[Panel(y=rate, lines=[*_best_of(found), *_configurations(found, edges)])],
        panel_in=4.0 + ROW_IN * len(found),  # the legend takes its part
    )


def _short(name: str) -> str:
    return printable(name, MOST_NAME)


def _best_of(found: Mapping[str, Sequence[ParetoPoint]]) -> Iterator[Line]:
    """Return the frontier over the points of all configurations."""
    points = [(p.per_user, p.per_gpu) for of_one in found.values() for p in of_one]
    on = [one for one in points if not any(dominates(other, one) for other in points)]
    yield from (replace(line, name="frontier", colour="quiet") for line in _frontier(on))


def _configurations(found: Mapping[str, Sequence[ParetoPoint]], edges: Span) -> Iterator[Line]:
    """Return a line for each, its number at one of its points: names would overlap."""
    right, top = edges
    marks = [
        _Label(x - MARK, x + MARK, y - MARK, y + MARK)
        for points in found.values()
        for x, y in ((p.per_user / right, p.per_gpu / top) for p in points)
    ]
    for place, (name, points) in enumerate(found.items()):
        number = str(place + 1)
        rooms = [_room(p.per_user / right, p.per_gpu / top, number, marks) for p in points]
        at = max((n for n, (_, box) in enumerate(rooms) if box), default=None)
        if at is not None and (box := rooms[at][1]) is not None:
            marks.append(box)
        doubt = next((_doubt(p) for p in points if _doubt(p)), "")
        yield Line(
            name=f"{number}: {_short(name)}{doubt}",
            x=np.array([p.per_user for p in points]),
            y=np.array([p.per_gpu for p in points]),
            place=place,
            # After as many as there are colours, another one for each mark.
            colour=series_colour(place + place // SERIES),
            labels=[number if n == at else "" for n in range(len(points))],
            side="right" if at is None else rooms[at][0],
            words=[f"{p.load.words}{_doubt(p)}" for p in points],
        )


def _room(x: float, y: float, words: str, taken: Sequence[_Label]) -> tuple[Side, _Label | None]:
    """Return on which side of a point its label meets no other, and where; None: on no side."""
    width = 1.3 * CHARACTER * len(words)
    corners: tuple[tuple[Side, float, float], ...] = (
        ("left", x - NEAR - width, y - TALL / 2),
        ("above", x - width / 2, y + NEAR),
        ("right", x + NEAR, y - TALL / 2),
        ("below", x - width / 2, y - NEAR - TALL),
    )
    for side, left, bottom in corners:
        box = _Label(left, left + width, bottom, bottom + TALL)
        inside = box.left >= 0 and box.right <= 1 and box.bottom >= 0 and box.top <= 1
        if inside and not any(box.meets(other) for other in taken):
            return side, box
    return "right", None
