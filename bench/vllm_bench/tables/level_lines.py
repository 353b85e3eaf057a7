"""Lines on a scenario's levels: objectives, stability, repeats."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.digits import counted, short
from ..figures.metrics import TITLES
from ..figures.objectives import Word
from ..figures.statistics import MIN_REPEATS, Repeated
from ..summary.capacity import capacity
from ..summary.levels import Level, Series
from ..summary.stability import stability
from .columns import REPEATED
from .server_lines import server_lines

# The figures over repeats that people compare most; all are in summary_levels.csv.
COMPARED = {
    "streams": ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "output_tokens_per_s"),
    "requests/s": (
        *("ttft_from_schedule_p50_ms", "ttft_from_schedule_p95_ms"),
        *("tpot_p50_ms", "output_tokens_per_s"),
    ),
}


WORDS: dict[Word, str] = {"met": "met", "missed": "MISSED", "not shown": "not shown"}


def sections(series: Series) -> list[tuple[str, list[str]]]:
    """Return titles and the lines under each, those without any left out."""
    found = (
        ("Objectives", objective_lines(series)),
        ("TTFT over load", stability_lines(series)),
        ("Repeats", repeat_lines(series)),
        ("Server and GPUs", server_lines(series)),
    )
    return [(title, lines) for title, lines in found if lines]


def objective_lines(series: Series) -> list[str]:
    """Return one line per level on its objectives, and one on the highest that met them all."""
    lines = [line for level in series.levels for line in _level_objectives(level)]
    most = capacity(series.levels)
    return [*lines, most.words] if most and len(series.levels) > 1 else lines


def _level_objectives(level: Level) -> list[str]:
    found = level.attainment
    if found is None:
        asked = any(run.attainment for run in level.runs)
        why = level.invalid or "its runs had other objectives"
        return [f"{level.load.words}: {why}"] if asked else []
    goodput = "" if found.goodput_per_s is None else f", goodput {short(found.goodput_per_s)} req/s"
    share, interval = found.share, found.interval
    met = "no request" if found.unmeasured is None else f"not measured ({found.unmeasured})"
    if share is not None and interval is not None:
        met = (
            f"{100 * share:.3g} % of {counted(found.arrivals, 'request')} met every objective "
            f"(95 % interval {100 * interval.low:.3g} to {100 * interval.high:.3g}){goodput}"
        )
    head = f"{level.load.words}: {WORDS[found.word]}, {met}"
    left_out = f"; {level.invalid}" if level.invalid else ""
    return [
        head + left_out,
        *(f"{level.load.words}, {outcome.words}" for outcome in found.outcomes),
    ]


def stability_lines(series: Series) -> list[str]:
    """Return a line for each level, and the knee; nothing where there is one level."""
    found = stability(series.levels)
    return found.lines if found else []


def repeat_lines(series: Series) -> list[str]:
    """Return the figures of levels that were run more than once, with each run's value."""
    return [
        f"{level.load.words}: {_repeated(figure.name, over)}"
        for level in series.levels
        if len(level.runs) > 1
        for figure in REPEATED
        if figure.name in COMPARED[level.load.unit] and (over := level.over_repeats(figure.value))
    ]


def _repeated(name: str, found: Repeated) -> str:
    """Return a figure over its repeats: `TTFT p50 120 ms, 95 % interval 100 to 140 over …`."""
    metric, _, percentile = name.removesuffix("_ms").rpartition("_p")
    title = f"{TITLES[f'{metric}_ms']} p{percentile}" if name.endswith("_ms") else "output"
    unit = "ms" if name.endswith("_ms") else "tokens/s"
    every, centre = ", ".join(short(value) for value in found.values), short(found.centre)
    if found.interval is None:
        return f"{title} {centre} {unit} ({every}); an interval needs {MIN_REPEATS} runs"
    low, high = short(found.interval.low), short(found.interval.high)
    runs = f"{len(found.values)} runs ({every})"
    return f"{title} {centre} {unit}, 95 % interval {low} to {high} over {runs}"


def missed(series: Sequence[Series]) -> bool:
    """Whether any level missed an objective."""
    found = [level.attainment for one in series for level in one.levels]
    return any(a is not None and not a.met for a in found)
