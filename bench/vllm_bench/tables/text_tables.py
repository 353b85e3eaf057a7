"""Tables of text, for both Markdown and the terminal, and the notes under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..figures.digits import allowed, counted, interval_words, short
from ..figures.machines.reads import reads_in_words
from ..figures.metrics import TITLES, headline_metric, that_apply
from ..records.text import ABSENT
from ..stats.distribution import min_samples
from ..summary.calibration import in_words
from ..summary.levels import Series
from ..summary.summary import RunSummary, Turn, named, with_classes
from .columns import BY_NAME
from .group import Group, Where, groups_of, lacking, legend, mark

EXPLAINED = ("ttft_ms", "latency_ms", "tpot_ms", "itl_ms", "max_gap_ms")  # where a cell is empty
TAILS = (50.0, 95.0, 99.0)
WITH_INTERVALS = ("ttft_ms", "ttfa_ms", "tpot_ms", "latency_ms")


def runs_table(series: Series, where: Where) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row per run and class; the first cell is the load, under its unit."""
    groups = groups_of(where, series.runs)
    headings = ["verdict", "ok", *(group.text_heading for group in groups)]
    rows = [
        [name, run.verdict.level, f"{run.succeeded}/{run.requests}"]
        + [_cell(run, group) for group in groups]
        for name, run in series.named_parts
    ]
    return [series.levels[0].load.unit, *headings], rows


def _cell(run: RunSummary, group: Group) -> str:
    """Return a group's figures: `120/180/needs 368`, or once why there are none."""
    if group.cell is not None:
        return group.cell(run)
    names = list(group.columns.values())
    shown = [_shown(run, name, percent=group.percent) for name in names]
    if not any(map(_measured, shown)):
        return " / ".join(dict.fromkeys(shown))
    return group.joint.join(shown) + mark([run], names[0])


def _measured(text: str) -> bool:
    return text[:1].isdigit() or text.startswith("-")


def figure_rows(series: Series, where: Where) -> list[list[str]]:
    """Return a row per figure, with a cell for each run; those that no run has are left out.

    The server's are of runs, others of their classes too.
    """
    named = series.named_runs if where is Where.SERVER else series.named_parts
    runs = [run for _, run in named]
    return [
        row
        for group in groups_of(where, runs)
        for row in _rows(group, runs)
        if not set(row[1:]) <= ({ABSENT, "0", "0 %"} if group.unless_zero else {ABSENT})
    ]


def _rows(group: Group, runs: Sequence[RunSummary]) -> Iterator[list[str]]:
    if group.cell is not None:
        yield [group.text_heading, *map(group.cell, runs)]
    for heading, column in group.columns.items() if group.cell is None else ():
        alone = replace(group, columns={heading: column})
        yield [f"{group.heading} {heading}".strip(), *(_cell(run, alone) for run in runs)]


def _shown(run: RunSummary, name: str, *, percent: bool) -> str:
    value = BY_NAME[name].value(run)
    if isinstance(value, float):
        return f"{short(100 * value)} %" if percent else short(value)
    if isinstance(value, int):
        return str(value)
    return value or lacking(run, name) or ABSENT


def interval_rows(series: Series) -> list[list[str]]:
    """Return a run's percentiles with their 95 % intervals within the run, one row per metric."""
    return [
        [
            name,
            TITLES[metric] + mark([run], metric),
            *(_with_interval(run, metric, q) for q in TAILS),
        ]
        for name, run in series.named_parts
        for metric in _with_intervals(run)
    ]


def _with_interval(run: RunSummary, metric: str, q: float) -> str:
    found = run.distributions[metric]
    value, interval = allowed(found.percentile(q), q), found.interval(q)
    if interval is None:
        return value
    return f"{value} ({interval_words(interval)})"


def population(series: Series) -> list[str]:
    """Return which requests the figures are of: a line for those with a window, one for others."""
    having = [run for run in series.runs if run.window is not None]
    lines = [
        f"{words}: no steady window, so figures are of all its {counted(run.requests, 'request')}"
        for words, run in series.run_words
        if run.window is None
    ]
    if having:
        of, every = sum(run.counted for run in having), sum(run.requests for run in having)
        lines.append(f"Figures are of {of:,} of {every:,} requests: those sent in a steady window")
    return lines


def unbounded(series: Series) -> list[str]:
    """Return how many requests would give an upper bound to the intervals that have none."""
    needed: dict[float, int] = {}
    for run in with_classes(series.runs):
        for found in (run.distributions[metric] for metric in _with_intervals(run)):
            for q, n in found.needed.items():
                needed[q] = max(needed.get(q, 0), n)
    words = ", ".join(f"p{q:g} from about {needed[q]:,} requests on" for q in TAILS if q in needed)
    return [f"≥: no upper bound; there is one for {words}"] if words else []


def _with_intervals(run: RunSummary) -> list[str]:
    timed = that_apply(WITH_INTERVALS, thought=run.thinking is not None)
    found = (headline_metric(one, run.load) for one in timed)
    return [metric for metric in found if metric in run.distributions]


def turn_rows(series: Series) -> list[list[str]]:
    """Return one row per run and turn of conversations; with classes one per turn of each."""
    named = [(name, run) for name, run in series.named_parts if not run.classes]
    return [[name, *_turn(turn)] for name, run in named for turn in run.turns]


def _turn(turn: Turn) -> list[str]:
    share = turn.cached_share
    return [
        turn.turn,
        str(turn.n),
        _turn_time(turn, turn.ttft_p50_ms, 50),
        _turn_time(turn, turn.ttft_p95_ms, 95),
        short(turn.prompt_tokens_mean),
        ABSENT if share is None else f"{short(100 * share)} %",
    ]


def _turn_time(turn: Turn, value: float | None, q: float) -> str:
    absent = value is None and turn.n >= min_samples(q)
    return ABSENT if absent else allowed(value, q)


def setup_words(summaries: Sequence[RunSummary]) -> str:
    """Return model, data set and simulation of runs in words; several where runs differ."""
    parts = [part for run in summaries for part in run.classes.values() or [run]]
    models = _distinct([run.setting("model") for run in parts])
    datasets = _distinct([run.setting("dataset") for run in parts])
    simulated = sum(run.simulated for run in summaries)
    words = [", ".join(models) or "unknown model", ", ".join(datasets) or "unknown prompts"]
    if simulated:
        words.append("simulated server" if simulated == len(summaries) else "some simulated")
    return " · ".join(words)


def _distinct(values: Sequence[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def footnotes(series: Series) -> list[str]:
    """Return what marks mean, and why figures are missing: too few samples, or no values."""
    runs = series.runs
    lines = list(_reasons(series))
    every = with_classes(runs)
    few = [f"p{q:g} from {min_samples(q)}" for q in TAILS if any(_lacks(s, q) for s in every)]
    if few:
        lines.append(f"needs …: too few successes; {', '.join(few)}")
    reads = reads_in_words([run.info for run in runs])
    lines = [*legend(runs), *lines, *([reads] if reads else [])]
    return [*lines, *(in_words(run.calibration) for run in runs if run.calibration)]


def _reasons(series: Series) -> Iterator[str]:
    """Yield the metrics that are missing, why, and in which runs if not in all."""
    found: dict[tuple[str, str], list[str]] = {}
    for metric in EXPLAINED:
        for reason in _distinct([run.absent.get(metric) for run in series.runs]):
            of = [words for words, run in series.run_words if run.absent.get(metric) == reason]
            whose = "" if len(of) == len(series.runs) else f" [{named(of, len(series.runs))}]"
            found.setdefault((reason, whose), []).append(TITLES[metric])
    for (reason, whose), titles in found.items():
        yield f"{', '.join(titles)}: {reason}{whose}"


def _lacks(run: RunSummary, q: float) -> bool:
    return "latency_ms" in run.distributions and run.percentile("latency_ms", q) is None


def cache_notes(summaries: Sequence[RunSummary]) -> list[str]:
    """Return why it is unknown how much of the prompts was cached."""
    reasons = [run.server_side.absent.get("prefix_cache_hit_rate") for run in summaries]
    return [f"cached {ABSENT}: {reason}" for reason in _distinct(reasons)]
