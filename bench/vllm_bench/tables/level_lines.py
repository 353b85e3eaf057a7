"""Lines on a scenario's levels: objectives, stability, repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..figures.digits import counted, short
from ..figures.metrics import TITLES
from ..figures.objectives import Attainment, Word
from ..stats.batches import MIN_REPEATS
from ..stats.repeated import Repeated
from ..summary.capacity import capacity, tiers_of
from ..summary.levels import Level, Series, series_of
from ..summary.stability import stability
from ..summary.summary import RunSummary
from .columns import REPEATED
from .group import PERCENTILE, interval_words
from .level_columns import over_runs
from .server_lines import server_lines, server_rows

# The figures over repeats that people compare most; all are in summary_levels.csv.
COMPARED = {
    "streams": ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "output_tokens_per_s"),
    "requests/s": (
        *("ttft_from_schedule_p50_ms", "ttft_from_schedule_p95_ms"),
        *("tpot_p50_ms", "output_tokens_per_s"),
    ),
}


SEEN = 0.005  # a smaller share of the prompts in the cache isn't worth a word
WORDS: dict[Word, str] = {"met": "met", "missed": "MISSED", "not shown": "not shown"}


class Section(NamedTuple):
    """What stands under a title: a table with a figure a row and a run a column, and lines."""

    title: str
    table: list[list[str]]
    lines: list[str]


def sections(series: Series) -> list[Section]:
    """Return the sections under a series' own table, those with nothing in them left out."""
    found = (
        Section("Objectives", [], objective_lines(series)),
        Section("TTFT over load", [], stability_lines(series)),
        Section("Repeats", [], repeat_lines(series)),
        Section("Server and GPUs", server_rows(series), server_lines(series)),
    )
    return [section for section in found if section.table or section.lines]


def objective_lines(series: Series) -> list[str]:
    """Return one line per level on its objectives, one on the highest that met them all, and tiers.

    Of each tier there is one line.
    """
    lines = [line for level in series.levels for line in _level_objectives(level)]
    most = capacity(series.levels)
    lines += [most.words] if most and len(series.levels) > 1 else []
    return [*lines, *(f"tier {name}: {tier_words(series, name)}" for name in tiers_of(series))]


def tier_words(series: Series, tier: str) -> str:
    """Return up to which level a tier's objectives were met; of one level, whether they were."""
    most = capacity(series.levels, tier)
    if most is None or len(series.levels) > 1:
        return most.words if most else ""
    (level,) = series.levels
    found = level.tiers.get(tier)
    if found is None:
        return level.invalid or "its runs had other objectives"
    return "; ".join(
        [WORDS[found.word], *(o.short_words for o in (*found.missed, *found.not_shown))]
    )


def _level_objectives(level: Level) -> list[str]:
    found = level.attainment
    if found is None:
        asked = any(run.attainment for run in level.runs)
        why = level.invalid or "its runs had other objectives"
        return [f"{level.load.words}: {why}"] if asked else []
    goodput = "" if found.goodput_per_s is None else f", goodput {short(found.goodput_per_s)} req/s"
    head = f"{level.load.words}: {WORDS[found.word]}{_share(found)}{goodput}"
    left_out = f"; {level.invalid}" if level.invalid else ""
    return [
        head + left_out,
        *(f"{level.load.words}, {outcome.words}" for outcome in found.outcomes),
    ]


def _share(found: Attainment) -> str:
    """Return which share of the requests met all that one can meet; empty: there are only rates."""
    share, interval = found.share, found.interval
    if not found.on_requests:
        return ""
    if found.unmeasured is not None:
        return f", not measured ({found.unmeasured})"
    if share is None or interval is None:
        return ", no request"
    every = "every objective" + (" on one" if len(found.on_requests) < len(found.outcomes) else "")
    return (
        f", {100 * share:.3g} % of {counted(found.arrivals, 'request')} met {every} "
        f"(95 % interval {100 * interval.low:.3g} to {100 * interval.high:.3g})"
    )


def stability_lines(series: Series) -> list[str]:
    """Return a line for each level, the knee, and what the prefix cache did at each level.

    Nothing where there is one level.
    """
    found, hits = stability(series.levels), hit_rates(series)
    return [*found.lines, *([hits] if hits else [])] if found else []


def hit_rates(series: Series) -> str:
    """Return which share of the prompts was in the prefix cache at each level, in words.

    Of a trace also the share that it repeats itself. Empty: nothing was in the cache.
    """
    known = [(lv.load.number, lv.hit_rate) for lv in series.levels if lv.hit_rate is not None]
    shared = series.runs[0].plan_number("trace_shared_share")
    if max((rate for _, rate in known), default=0.0) < SEEN and not shared:
        return ""
    at_each = ", ".join(f"{100 * rate:.0f} % at {at}" for at, rate in known)
    words = f"Prefix cache hits: {at_each or 'unknown'}"
    own = "" if shared is None else f"; the trace itself repeats {100 * shared:.0f} % of its tokens"
    return words + own


def repeat_lines(series: Series) -> list[str]:
    """Return the figures of levels that were run more than once, with each run's value.

    Where the runs disagree there is only how.
    """
    return [f"{level.load.words}: {words}" for level in series.levels for words in _repeats(level)]


def _repeats(level: Level) -> Iterator[str]:
    if level.disagree:
        yield f"{level.disagree}: no mean"
    for figure in REPEATED if len(level.figures_of) > 1 else ():
        if figure.name in COMPARED[level.load.unit] and (over := over_runs(level, figure)):
            yield _repeated(figure.name, over)


def _repeated(name: str, found: Repeated) -> str:
    """Return a figure over its repeats: `TTFT p50 120 ms, 95 % interval 100 to 140 over …`."""
    rows = PERCENTILE.fullmatch(name)
    title = f"{TITLES[rows['metric'] + '_ms']} p{rows['percentile']}" if rows else "output"
    unit, needs = ("ms", "more requests") if rows else ("tokens/s", f"{MIN_REPEATS} runs")
    every, centre = ", ".join(short(value) for value in found.values), short(found.centre)
    if found.interval is None:
        return f"{title} {centre} {unit} ({every}); an interval needs {needs}"
    runs = f"{len(found.values)} runs ({every})"
    return f"{title} {centre} {unit}, 95 % interval {interval_words(found.interval)} over {runs}"


def exit_code(summaries: Sequence[RunSummary]) -> int:
    """Return 4 where a run is INVALID or not whole or repeats disagree, else 3 where one missed.

    By run, not by level: good runs beside a bad one don't make it good. A run that was broken off
    isn't whole, though its figures may be worth a look. An objective that is not shown isn't
    missed. Else 0.
    """
    if any(f.code == "interrupted" for s in summaries for f in s.verdict.findings):
        return 4
    levels = [level for one in series_of(summaries) for level in one.levels]
    if any(level.disagree or len(level.believed) < len(level.runs) for level in levels):
        return 4
    return 3 if any(s.attainment and s.attainment.word == "missed" for s in summaries) else 0
