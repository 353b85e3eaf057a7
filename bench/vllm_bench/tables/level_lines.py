"""What stands under a scenario's table: objectives, stability, repeats, server and GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..answers.lost import side_words
from ..figures.absent import observed
from ..figures.attained import Attainment
from ..figures.digits import counted, interval_words, short
from ..figures.metrics import TITLES
from ..figures.objectives import Word
from ..records.text import printable
from ..serverside.energy import SENSOR_NOTE, Cost, Energy
from ..serverside.gpu import GpuSide
from ..serverside.prefix import PrefixShares
from ..stats.batches import MIN_REPEATS
from ..stats.repeated import Repeated
from ..summary.capacity import capacity, tiers_of
from ..summary.levels import Level, Series, series_of
from ..summary.stability import stability
from ..summary.summary import RunSummary
from .columns import REPEATED
from .group import PERCENTILE, Where
from .level_columns import over_runs
from .machines.machine_lines import machine_lines, machine_rows
from .text_tables import figure_rows

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
    """What stands under a title: a table with headings, by rule a figure a row, and lines."""

    title: str
    table: list[list[str]]
    lines: list[str]


def sections(series: Series) -> list[Section]:
    """Return the sections under a series' own table, those with nothing in them left out."""
    found = (
        Section("Objectives", [], objective_lines(series)),
        Section("Jobs", [], job_lines(series)),
        Section("Answers", [], [*answer_lines(series), *form_lines(series)]),
        Section("Thinking", [], thinking_lines(series)),
        Section("TTFT over load", [], stability_lines(series)),
        Section("Repeats", [], repeat_lines(series)),
        Section("Machines", machine_rows(series), machine_lines(series)),
        Section("Server and GPUs", server_rows(series), server_lines(series)),
    )
    return [section for section in found if section.table or section.lines]


def objective_lines(series: Series) -> list[str]:
    """Return one line per level on its objectives, one on the highest that met them all, and tiers.

    Of each tier there is one line.
    """
    parts = [part for level in series.levels for part in (level, *level.classes.values())]
    lines = [line for part in parts for line in _level_objectives(part)]
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
    return "; ".join(filter(None, (WORDS[found.word], found.failing)))


def _level_objectives(level: Level) -> list[str]:
    found, words = level.attainment, level_words(level)
    if found is None:
        asked = any(run.attainment for run in level.runs)
        why = level.invalid or "its runs had other objectives"
        return [f"{words}: {why}"] if asked else []
    goodput = "" if found.goodput_per_s is None else f", goodput {short(found.goodput_per_s)} req/s"
    head = f"{words}: {WORDS[found.word]}{_share(found)}{goodput}"
    left_out = f"; {level.invalid}" if level.invalid else ""
    # Those of a class stand under the class.
    own = [one for one in found.outcomes if one.objective.of_class is None]
    return [head + left_out, *(f"{words}, {outcome.words}" for outcome in own)]


def level_words(level: Level) -> str:
    """Return a level for people, with the class where it is one's: `8 streams, chat`."""
    name = "" if level.class_ is None else f", {printable(level.class_, 32)}"
    return f"{level.load.words}{name}"


def _share(found: Attainment) -> str:
    """Return which share met all that one can; empty: only rates, or each class has its own."""
    share, interval = found.share, found.interval
    if not found.on_requests:
        return ""
    if found.by_class:
        bad = [one for one in found.outcomes if one.word == found.word != "met"]
        names = dict.fromkeys(one.objective.of_class or "all together" for one in bad)
        return f" ({', '.join(printable(name, 32) for name in names)})" if names else ""
    if found.unmeasured is not None:
        return f", not measured ({found.unmeasured})"
    if share is None or interval is None:
        return ", no request"
    every = "every objective" + (" on one" if len(found.on_requests) < len(found.outcomes) else "")
    return (
        f", {100 * share:.3g} % of {counted(found.arrivals, 'request')} met {every} "
        f"(95 % interval {100 * interval.low:.3g} to {100 * interval.high:.3g})"
    )


def job_lines(series: Series) -> list[str]:
    """Return lines for each run of sessions: how many ended, how long they took, and the others."""
    return [
        f"{words}: {line}"
        for words, run in series.run_words
        if run.jobs
        for line in (run.jobs.words, *_job_times(run, run.jobs.per_h))
    ]


def _job_times(run: RunSummary, per_h: float | None) -> Iterator[str]:
    """Yield how long jobs took, where any ended."""
    job, waits = (run.distributions.get(name) for name in ("job_s", "job_wait_s"))
    if job is None or waits is None:
        return
    served, times = run.distributions.get("job_served_s"), []
    for q in (50, 95):
        if job.percentile(q) is not None and served is not None:
            times.append(
                f"p{q} {short(job.percentile(q))} s, without waits {short(served.percentile(q))} s"
            )
    rate = "" if per_h is None else f", {per_h:.0f} jobs/h"
    lasted = "; ".join(times) or "too few for p50"
    yield f"jobs: {lasted}; waits {short(waits.mean)} s on average{rate}"


def answer_lines(series: Series) -> list[str]:
    """Return a line for each run of questions: how many are right, and which were lost."""
    return [
        f"{words}: {side_words(run.answers)}"
        for words, run in series.run_words
        if run.answers is not None
    ]


def form_lines(series: Series) -> list[str]:
    """Return a line for each run, or class of it, whose answers should have a form."""
    return [
        f"{words}: {100 * part.answers_valid:.3g} % of the answers have the form that "
        "response_format asks for"
        for words, part in _parts(series)
        if part.answers_valid is not None
    ]


def thinking_lines(series: Series) -> list[str]:
    """Return a line for each run whose replies thought: for how much, and what wasn't answered."""
    return [f"{words}: {run.thinking.words}" for words, run in series.run_words if run.thinking]


def stability_lines(series: Series) -> list[str]:
    """Return a line for each level, the knee, and what the prefix cache did at each level.

    Nothing where there is one level.
    """
    found, hits = stability(series.levels), hit_rates(series)
    if found is None:
        return []
    classes = [(name, stability(part.levels)) for name, part in series.classes.items()]
    # No knee of a class: its throughput may be flat because its own load is.
    of_each = [f"{printable(n, 32)}: {lv.words}" for n, one in classes if one for lv in one.levels]
    return [*found.lines, *of_each, *([hits] if hits else [])]


def hit_rates(series: Series) -> str:
    """Return which share of the prompts was in the prefix cache at each level, in words.

    Where the plan knows it also the share that it repeats itself. Empty: nothing was in the cache.
    """
    known = [(lv.load.number, lv.hit_rate) for lv in series.levels if lv.hit_rate is not None]
    first = series.runs[0]
    shared = first.prefix.possible_share
    if shared is None:  # of a version whose rows don't say it
        shared = first.plan_number("trace_shared_share")
    if max((rate for _, rate in known), default=0.0) < SEEN and not shared:
        return ""
    at_each = ", ".join(f"{100 * rate:.0f} % at {at}" for at, rate in known)
    words = f"Prefix cache hits: {at_each or 'unknown'}"
    if shared is None:
        return words
    return f"{words}; the requests themselves repeat {100 * shared:.0f} % of their tokens"


def repeat_lines(series: Series) -> list[str]:
    """Return the figures of levels that were run more than once, with each run's value.

    Where the runs disagree there is only how.
    """
    parts = [part for level in series.levels for part in (level, *level.classes.values())]
    return [f"{level_words(level)}: {words}" for level in parts for words in _repeats(level)]


def _repeats(level: Level) -> Iterator[str]:
    if level.disagree:
        yield f"{level.disagree}: no mean"
    machines = sorted({len(run.machines) or 1 for run in level.figures_of})
    if len(machines) > 1 and level.class_ is None:
        yield f"sent by {' or '.join(map(str, machines))} machines: one load, from other clients"
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


# ---- server and GPUs ----

FEW = 5  # with fewer readings, their number is told
COVERED = 0.95  # of the window; a GPU with less of it covered is named


def server_rows(series: Series) -> list[list[str]]:
    """Return a row per figure with a cell for each run, headings first; nothing without samples."""
    rows = figure_rows(series, Where.SERVER) if any(map(_watched, series.runs)) else []
    if not any(run.gpu_side.expected for run in series.runs):
        rows = [row for row in rows if not row[0].startswith("GPUs ")]
    return [["", *(words for words, _ in series.run_words)], *rows] if rows else []


def server_lines(series: Series) -> list[str]:
    """Return what is missing or odd in each run with samples or a price."""
    lines = [f"{words}: {line}" for words, run in series.run_words for line in _lines(run)]
    grouped = [(w, part) for w, part in _parts(series) if part.class_ and part.prefix.known]
    lines += [f"{words}: {_prefix(part.prefix)}" for words, part in grouped]
    measured = any(run.energy.window_j is not None for run in series.runs)
    return [*lines, SENSOR_NOTE] if measured else lines


def _parts(series: Series) -> Iterator[tuple[str, RunSummary]]:
    """Yield each run, or where it has classes each of these: `8, rag`."""
    for words, run in series.run_words:
        if not run.classes:
            yield words, run
        for name, part in run.classes.items():
            yield f"{words}, {printable(name, 32)}", part


def _prefix(found: PrefixShares) -> str:
    shares = {
        "wanted": found.wanted_share,
        "possible": found.possible_share,
        "served": found.served_share,
    }
    each = ", ".join(f"{n} {100 * s:.1f} %" for n, s in shares.items() if s is not None)
    unserved = "" if found.served_share is not None else ", served unknown"
    return f"prefix cache: {each}{unserved} of its prompt tokens"


def _watched(run: RunSummary) -> bool:
    watched = run.server_side.sampled or bool(run.gpu_side.gpus)
    return watched or run.prefix.known or _priced(run.cost)


def _priced(cost: Cost) -> bool:
    return cost.gpu_hour_price is not None and cost.per_million_output_tokens is not None


def _lines(run: RunSummary) -> Iterable[str]:
    side = run.server_side
    if side.sampled and side.samples < FEW:
        yield f"the server's means are of {side.samples} readings"
    elif not side.sampled and observed(run.info, "server_metrics").noted.get("rows"):
        yield f"no server figures: {side.absent['running_mean']}"
    if run.gpu_side.gpus:
        yield from _doubtful(run.gpu_side)
        yield from _no_energy(run.energy)
    if run.cost.gpu_hour_price is not None and not _priced(run.cost):
        yield f"no cost: {run.cost.absent['per_million_output_tokens']}"


def _doubtful(side: GpuSide) -> Iterable[str]:
    """Yield a line on each GPU that was throttled or sampled only in part, and on idle ones."""
    for gpu in side.gpus:
        if gpu.throttled_by:
            by = ", ".join(f"{r} {_percent(share)}" for r, share in gpu.throttled_by.items())
            share = _percent(gpu.throttled_share)
            yield f"GPU {gpu.index}'s clocks were throttled in {share} of its readings: {by}"
        if gpu.covered_share < COVERED:
            yield f"GPU {gpu.index} was sampled for only {_percent(gpu.covered_share)} of the time"
    idle = [str(gpu.index) for gpu in side.gpus if gpu.utilization_peak_percent == 0]
    if idle and len(idle) < len(side.gpus):
        yield (
            f"GPU {', '.join(idle)} did nothing but is in these figures: if the server doesn't "
            "use it, name the others with telemetry_gpus"
        )


def _no_energy(found: Energy) -> Iterable[str]:
    if found.window_j is None:
        yield f"no energy: {found.absent['window_j']}"
    elif found.per_output_token_j is None:
        yield f"no energy per token: {found.absent['per_output_token_j']}"
    else:
        yield f"energy by {found.source}"


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.3g} %"


def exit_code(summaries: Sequence[RunSummary]) -> int:
    """Return 4 where a run is INVALID or not whole or repeats disagree, else 3 where one missed.

    By run, not by level: good runs beside a bad one don't make it good. A run that was broken off
    isn't whole, though its figures may be worth a look. An objective that is not shown isn't
    missed. Else 0.
    """
    if any(f.code == "interrupted" for s in summaries for f in s.verdict.findings):
        return 4
    whole = [level for one in series_of(summaries) for level in one.levels]
    levels = [part for level in whole for part in (level, *level.classes.values())]
    if any(level.disagree or len(level.believed) < len(level.runs) for level in levels):
        return 4
    return 3 if any(s.attainment and s.attainment.word == "missed" for s in summaries) else 0
