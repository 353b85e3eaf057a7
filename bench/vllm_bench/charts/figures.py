"""What pictures need of a run, and the words that stand over and beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..figures.facts import Facts
from ..figures.metrics import headline_metric
from ..scenario.load import Load
from ..summary.levels import Level
from ..summary.summary import RunSummary, headline
from ..tables.text_tables import setup_words
from .distributions import Curve, curves_of
from .pen_matplotlib import Heading

TITLES = {
    "ttft_ms": "Time to first token",
    "latency_ms": "Latency",
    "itl_ms": "Inter-token latency",
    "chunk_gap_ms": "Chunk gap",
}


@dataclass(frozen=True, slots=True)
class PlottedRun:
    """A run's summary and its curves by metric."""

    summary: RunSummary
    curves: Mapping[str, Curve]


def plotted_run(summary: RunSummary, facts: Facts) -> PlottedRun:
    """Return what is kept of a run for pictures of several runs; its rows may go."""
    return PlottedRun(summary, curves_of(facts))


def title_of(metric: str, load: Load) -> str:
    """Return what is drawn for a metric at a load."""
    title = TITLES[metric]
    return title if headline_metric(metric, load) == metric else f"{title} from schedule"


def heading(title: str, runs: Sequence[RunSummary]) -> Heading:
    """Return a picture's heading: what was measured, on what, and whether to believe it."""
    requests = sum(r.requests for r in runs)
    count = f"{sum(r.succeeded for r in runs):,} of {requests:,} request{'s' * (requests != 1)}"
    doubted = [r for r in runs if r.verdict.doubts]
    reasons = ", ".join(sorted({f.code for r in doubted for f in r.verdict.doubts}))
    verdict = f"{headline(runs)} ({reasons})" if doubted else headline(runs)
    if len(runs) == 1:
        verdict = verdict.removeprefix("1 ")
    return Heading(title, f"{setup_words(runs)} · {count} succeeded", f"Verdict: {verdict}")


def doubt(level: Level) -> str:
    """Return the worst verdict of a level's runs; nothing where all are VALID."""
    return "" if level.verdict == "VALID" else level.verdict


def level_ticks(levels: Sequence[Level]) -> list[tuple[float, str]]:
    """Return each level's load, and its label: the doubt under it says which not to trust."""
    return [(lv.load.value, f"{lv.load.number}\n{doubt(lv)}".rstrip()) for lv in levels]
