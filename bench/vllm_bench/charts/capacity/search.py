"""The course of a search for the capacity: what each run showed, and what was left to search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...records.text import printable
from ...search.axis import UNITS
from ...search.found import Found
from ...search.kept import Search
from ...search.probe import Probe
from ...search.steps import bracket
from ..chart import LINE_ROWS, Axis, Chart, Line, Panel, Role, Rule, Span, log_times

# By what a run of a search showed: colour, place (of its mark), role.
OUTCOMES: dict[str, tuple[str, int, Role]] = {
    "met": ("c0", 0, "points"),
    "missed": ("c1", 6, "points"),
    "not shown": ("quiet", 3, "points"),
    "can't be believed": ("quiet", 1, "hollow"),
}
ROW_IN = 0.27  # a row's height
BESIDE = 1.15  # times, below the lowest and above the highest load
MOST_WHY = 32  # characters
FROM_SCHEDULE = " from schedule"  # said on the axis and at the objective's line


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
