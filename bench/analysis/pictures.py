"""Which pictures runs allow: each with its file's name, and how to draw it or why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .figures import TITLES, PlottedRun, cdf_figure, overlay_figure
from .foreign import file_name
from .load_figure import load_figure
from .metrics import TITLES as METRIC_NAMES


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture; `draw` is None where the runs don't allow it, and `why_not` says why."""

    file_name: str
    draw: Callable[[], Figure] | None
    why_not: str = ""


def run_pictures(run: PlottedRun) -> Iterator[Picture]:
    """Return the two distributions of a run."""
    for metric in TITLES:
        name = f"{run.summary.name}_{_short(metric)}_cdf.png"
        if run.values[metric].size:
            yield Picture(name, lambda metric=metric: cdf_figure(run, metric))  # type: ignore[misc]
        else:
            yield Picture(name, None, run.summary.absent[metric])


def scenario_pictures(runs: Sequence[PlottedRun]) -> Iterator[Picture]:
    """Return a scenario's overlays and its picture against load."""
    scenario = file_name(runs[0].summary.scenario)
    if len(runs) == 1:
        yield Picture(f"{scenario}_*.png", None, "one run has nothing to be compared with")
        return
    for metric in TITLES:
        yield _overlay(f"{scenario}_{_short(metric)}_overlay.png", runs, metric)
    if len({r.summary.load for r in runs if r.summary.succeeded}) > 1:
        yield Picture(f"{scenario}_load.png", lambda: load_figure([r.summary for r in runs]))
    else:
        why = "it takes two levels of load with requests that succeeded"
        yield Picture(f"{scenario}_load.png", None, why)


def _overlay(name: str, runs: Sequence[PlottedRun], metric: str) -> Picture:
    drawn = [r for r in runs if r.values[metric].size]
    if len(drawn) > 1:
        return Picture(name, lambda: overlay_figure(runs, metric))
    return Picture(name, None, f"it takes two runs with a {METRIC_NAMES[metric]}")


def _short(metric: str) -> str:
    return metric.removesuffix("_ms")
