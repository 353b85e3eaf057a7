"""Tokens/s of one user against tokens/s of the server, one point per level of load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..summary.capacity import ParetoPoint, gpu_count, pareto_points
from ..summary.levels import Series
from ..tables.group import MARKS
from .chart import Axis, Chart, Line, Panel

# Labels closer than this would overlap: as parts of the largest values.
NEAR_X, NEAR_Y = 0.25, 0.06
CHARACTER, GAP = 0.015, 0.04  # width of a character, gap before a label: as parts of the axis


def pareto_chart(series: Series) -> Chart | None:
    """Return the server's rate over a user's; per GPU where the number of GPUs is known.

    None where fewer than two levels have both.
    """
    gpus, points = gpu_count(series.runs), pareto_points(series)
    if len(points) < 2:
        return None
    whose = "per GPU" if gpus else "of the server"
    counted = f"(of {gpus})" if gpus else "\n(its GPUs were not counted)"
    rate = Axis(words=f"output tokens/s {whose} {counted}", unit=f"tokens/s {whose}")
    lines = [*_frontier(points), *_kinds(points)]
    return Chart(
        title="Speed for a user, throughput of the server",
        doc=f"output tokens/s {whose} over tokens/s of the median request (1000 / TPOT p50): up "
        "and to the right is better, and load moves a server along the frontier",
        note=". ".join(_notes(series)),
        x=Axis(
            words="output tokens/s for a user (1000 / TPOT p50)",
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


def _frontier(points: Sequence[ParetoPoint]) -> Iterator[Line]:
    on = sorted((p.per_user, p.per_gpu) for p in points if p.on_frontier)
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
