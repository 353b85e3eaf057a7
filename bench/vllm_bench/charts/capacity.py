"""How much a server takes: tokens/s of a user against the server's, and the course of a search.

The former has one point per level of load, of one series or of several configurations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..records.text import printable
from ..search.axis import UNITS
from ..search.found import Found
from ..search.kept import Search
from ..search.probe import Probe
from ..search.steps import bracket
from ..summary.capacity import ParetoPoint, dominates, gpu_count, pareto
from ..summary.levels import Series, levels_of
from ..summary.summary import RunSummary
from ..tables.group import MARKS
from .chart import (
    LINE_ROWS,
    SERIES,
    Axis,
    Chart,
    Line,
    Panel,
    Role,
    Rule,
    Side,
    Span,
    log_times,
    series_colour,
)

# By what a run of a search showed: colour, place (of its mark), role.
OUTCOMES: dict[str, tuple[str, int, Role]] = {
    "met": ("c0", 0, "points"),
    "missed": ("c1", 6, "points"),
    "not shown": ("quiet", 3, "points"),
    "can't be believed": ("quiet", 1, "hollow"),
}
ROW_IN = 0.27  # a row's height
BESIDE = 1.15  # times, below the lowest and above the highest load
MOST_WHY, MOST_NAME = 32, 30  # characters
FROM_SCHEDULE = " from schedule"  # said on the axis and at the objective's line
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


# ---- the course of a search for the capacity ----


def search_chart(search: Search, found: Found) -> Chart | None:
    """Return how a tier's answer was found, a row a run; None where there is no run.

    Each row has the bracket that was left after it. Below, of the objective that broke first, the
    figure of each run, or the share that was late.
    """
    probes, unit = search.probes, UNITS[search.of]
    if not probes:
        return None
    figures = _figures(search, found)
    rows = len(probes) + (LINE_ROWS if figures else 0)
    loads = [probe.load for probe in probes]
    span = min(loads) / BESIDE, max(loads) * BESIDE
    course = _course(search, found.tier, span)
    rules = [] if found.load is None else [_answer(found, found.load)]
    return Chart(
        title="Search for the capacity",
        doc="the load of each run, whether it met the objectives, and what was left to search",
        note="met, missed: with 95 %; not shown: too few requests. Beside a run: its load, and "
        "what decided",
        x=Axis(words=f"load ({unit})", unit=unit, log=True, span=span),
        panels=[replace(course, rules=rules), *([figures] if figures else [])],
        panel_in=ROW_IN * rows / (2 if figures else 1) + 0.3,
    )


def _answer(found: Found, load: float) -> Rule:
    confirmed = f"confirmed {found.confirmed} times" if found.confirmed else "not confirmed"
    return Rule(f"met up to {load:.4g} ({confirmed})", load, upright=True)


def _course(search: Search, tier: str, span: Span) -> Panel:
    """Return the rows of runs: the bracket after each, and a mark that tells what it showed."""
    probes, (low, high) = search.probes, span
    heights = [float(at) for at in range(len(probes))]
    left = [bracket(search.space, tier, probes[: n + 1]) for n in range(len(probes))]
    begins = np.array([low if one.low is None else one.low for one in left])
    ends = np.array([high if one.high is None else one.high for one in left])
    return Panel(
        y=Axis(
            words=f"Course of the search{f' for {tier}' if tier else ''}",
            ticks=[(at, f"{p.number} {p.purpose}") for at, p in zip(heights, probes, strict=True)],
            span=(len(probes) - 0.5, -0.5),  # the first on top
        ),
        lines=[
            Line(
                name="where the answer may be",
                x=begins,
                until=np.maximum(begins, ends),
                y=np.array(heights),
                role="bars",
                colour="window",
            ),
            *_marks(list(zip(probes, heights, strict=True)), tier),
        ],
        beside=[
            (at, f"{p.load:.4g}\n{printable(p.why(tier).replace(FROM_SCHEDULE, ''), MOST_WHY)}")
            for at, p in zip(heights, probes, strict=True)
        ],
    )


def _marks(points: Sequence[tuple[Probe, float]], tier: str) -> Iterator[Line]:
    """Return marks at these heights, a line for each outcome that there is."""
    for name, (colour, place, role) in OUTCOMES.items():
        found = [(p, y) for p, y in points if _outcome(p, tier) == name]
        if found:
            yield Line(
                name=name,
                x=np.array([probe.load for probe, _ in found]),
                y=np.array([height for _, height in found]),
                flat=True,
                role=role,
                place=place,
                colour=colour,
                words=[f"run {p.number}, to {p.purpose}: {p.why(tier)}" for p, _ in found],
            )


def _outcome(probe: Probe, tier: str) -> str:
    return "can't be believed" if probe.spoilt is not None else probe.word(tier)


def _figures(search: Search, found: Found) -> Panel | None:
    """Return each run's figure against load, of the objective that limits the answer.

    In its stead the share that was late, where most runs had too few requests for the figure.
    """
    probes = [probe for probe in search.probes if probe.spoilt is None]
    if not probes:
        return None
    worst = (found.beyond or probes[-1]).worst(found.tier)
    lates = [
        (p, late)
        for p in probes
        for late in p.late[found.tier]
        if late.objective == worst.objective
    ]
    points = [(p, late.value_ms) for p, late in lates if late.value_ms is not None]
    words = f"{worst.figure} (ms)".replace(FROM_SCHEDULE, f"\n{FROM_SCHEDULE.strip()}")
    y, limit = Axis(words=words, unit="ms"), worst.limit_ms
    if limit is None or len(points) <= len(lates) / 2:
        points = [(p, 100 * late.share) for p, late in lates]
        y, limit = Axis(words="late or failed (%)", unit="%"), 100 * worst.allowed
    panel = Panel(
        y=y,
        lines=list(_marks(points, found.tier)),
        rules=[Rule(f"objective: {worst.objective}", limit)],
    )
    return replace(panel, y=replace(y, log=log_times(panel.heights)))
