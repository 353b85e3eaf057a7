"""Which pictures can be drawn of runs: file name, chart and heading of each, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..answers.together import with_answers_judged
from ..classes.fairness import fairness
from ..compare.comparison import Comparison
from ..compare.words import answer, shown_name
from ..figures.facts import Facts
from ..figures.metrics import TITLES, headline_metric, that_apply
from ..scenario.load import Load
from ..search.kept import Search
from ..search.words import answer_lines
from ..summary.levels import Level, Series, series_of
from ..summary.series_names import named_series, run_label, slug
from ..summary.summary import RunSummary, headline, sorted_summaries
from ..tables.text_tables import setup_words
from .against_load import against_load
from .by_class.fairness import fairness_chart
from .by_class.levels import classes_against_load
from .capacity.pareto import pareto_chart
from .capacity.search import search_chart
from .chart import Chart, Heading
from .distributions import DRAWN, Curves, by_class, curves_of, distribution, overlay
from .effects import effects_chart, load_overlays
from .over_time import PICTURE, Room
from .sessions.jobs import jobs_chart
from .timeline import timeline
from .waterfall import waterfall

OVERLAID = ("ttft_ms", "ttfa_ms", "latency_ms")
NAMES = {
    "ttft_ms": "Time to first token",
    "ttfa_ms": "Time to the answer",
    "latency_ms": "Latency",
    "itl_ms": "Inter-token latency",
    "chunk_gap_ms": "Chunk gap",
}


@dataclass(frozen=True, slots=True)
class DrawnRun:
    """What charts need of a run, so that its rows needn't be kept."""

    summary: RunSummary
    curves: Curves
    timeline: Chart | None
    classes: Mapping[str, Curves] = field(default_factory=dict)  # curves of each class
    jobs: Chart | None = None  # of a run of sessions


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture; `chart` is None where the runs don't allow it, and `why_not` says why."""

    name: str  # the file's, without its ending
    heading: Heading
    chart: Chart | None
    why_not: str = ""


def drawn_run(summary: RunSummary, facts: Facts, room: Room = PICTURE) -> DrawnRun:
    """Return what charts need of a run. Raises RecordsError where samples are damaged."""
    classes = {name: curves_of(part, room.curve) for name, part in facts.classes.items()}
    drawn = timeline(facts, room), classes, jobs_chart(facts)
    return DrawnRun(summary, curves_of(facts, room.curve), *drawn)


def moment_pictures(run: DrawnRun, facts: Facts) -> Iterator[Picture]:
    """Return the pictures over a run's time: its timeline and its requests."""
    summary = run.summary
    for name, title, chart, why_not in (
        ("timeline", "Timeline", run.timeline, "no request took any time"),
        ("waterfall", "Requests", waterfall(facts), "no request ended"),
    ):
        over = heading(f"{title}: {run_label(summary)}, {summary.load.words}", [summary])
        yield Picture(f"{summary.name}_{name}", over, chart, why_not)


def judged_together(runs: Sequence[DrawnRun]) -> list[DrawnRun]:
    """Return the runs with what their answers say together: to be done before any is drawn."""
    judged = with_answers_judged([run.summary for run in runs])
    return [replace(run, summary=one) for run, one in zip(runs, judged, strict=True)]


def all_series(runs: Sequence[DrawnRun]) -> list[tuple[str, Series]]:
    """Return what runs are compared in, with its name: a scenario, by settings and server."""
    return named_series(series_of(sorted_summaries([run.summary for run in runs])))


def series_pictures(name: str, series: Series, runs: Sequence[DrawnRun]) -> Iterator[Picture]:
    """Return the distributions of a named series' runs, and its levels' pictures."""
    curves = {id(run.summary): run.curves for run in runs}
    classes = {id(run.summary): run.classes for run in runs}
    jobs = {id(run.summary): run.jobs for run in runs}
    for level in series.levels:
        for summary in level.runs:
            yield from _distributions(name, summary, level, curves)
            yield from _class_distributions(name, summary, classes[id(summary)])
            yield from _jobs_picture(name, summary, jobs[id(summary)])
    if len(series.runs) > 1:
        yield from _level_pictures(name, series, {id(s): curves[id(s)] for s in series.runs})
    else:
        why_not = "there is only one run, and nothing to compare it with"
        yield Picture(f"{slug(name)}_*", heading("", series.runs), None, why_not)


def _distributions(
    name: str, run: RunSummary, level: Level, curves: Mapping[int, Curves]
) -> Iterator[Picture]:
    """Return the distributions of a run, with those of its level's other runs."""
    for metric in that_apply(DRAWN, thought=run.thinking is not None):
        head = headline_metric(metric, run.load)
        over = heading(f"{_title(metric, run.load)}: {name}, {run.load.words}", [run])
        chart, why_not = None, run.absent.get(head, "")
        if head in curves[id(run)]:
            others = [curves[id(r)] for r in level.figures_of if r is not run]
            repeats = [other[head] for other in others if head in other]
            chart = distribution(run, curves[id(run)], metric, repeats)
        yield Picture(f"{run.name}_{_short(metric)}_cdf", over, chart, why_not)


def _class_distributions(
    name: str, run: RunSummary, curves: Mapping[str, Curves]
) -> Iterator[Picture]:
    """Return the distributions of a run's classes; nothing where it has none."""
    for metric in that_apply(OVERLAID, thought=run.thinking is not None) if curves else ():
        over = heading(f"{_title(metric, run.load)} by class: {name}, {run.load.words}", [run])
        why_not = run.absent.get(headline_metric(metric, run.load), "no class has any")
        chart = by_class(run, curves, metric)
        yield Picture(f"{run.name}_{_short(metric)}_classes", over, chart, why_not)


def _jobs_picture(name: str, run: RunSummary, chart: Chart | None) -> Iterator[Picture]:
    if run.jobs is not None:
        over = heading(f"Jobs: {name}, {run.load.words}", [run])
        yield Picture(f"{run.name}_jobs", over, chart, run.absent.get("job_s", ""))


def fairness_pictures(runs: Sequence[DrawnRun]) -> Iterator[Picture]:
    """Return how each scenario's classes fared against each other; nothing without classes."""
    found = fairness(series_of(sorted_summaries([run.summary for run in runs])))
    by_id = {run.summary.run_id: run.summary for run in runs}
    for name in dict.fromkeys(one.scenario for one in found):
        levels = [one for one in found if one.scenario == name]
        over = heading(f"Fairness: {name}", [by_id[i] for one in levels for i in one.run_ids])
        why_not = "each class's runs alone are needed (bench.py --alone)"
        yield Picture(f"{slug(name)}_fairness", over, fairness_chart(levels), why_not)


def _level_pictures(name: str, series: Series, curves: Mapping[int, Curves]) -> Iterator[Picture]:
    base, load, runs = slug(name), series.levels[0].load, series.runs
    for metric in that_apply(OVERLAID, thought=any(run.thinking for run in runs)):
        several = sum(headline_metric(metric, load) in found for found in curves.values()) > 1
        by = "request rate" if load.is_open else "streams"
        over = heading(f"{_title(metric, load)}: {name}, by {by}", runs)
        chart = overlay(series, curves, metric) if several else None
        why_not = f"two runs with a {TITLES[metric]} are needed"
        yield Picture(f"{base}_{_short(metric)}_overlay", over, chart, why_not)
    over = heading(f"Against load: {name}", runs)
    succeeded = sum(any(run.succeeded for run in level.runs) for level in series.levels)
    chart = against_load(series) if succeeded > 1 else None
    why_not = "two levels of load with successful requests are needed"
    yield Picture(f"{base}_load", over, chart, why_not)
    if series.classes:
        over = heading(f"Classes against load: {name}", runs)
        chart = classes_against_load(series) if succeeded > 1 else None
        yield Picture(f"{base}_load_classes", over, chart, why_not)
    over = heading(f"Throughput against a user's speed: {name}", runs)
    why_not = "two levels of load with a TPOT and a throughput are needed"
    yield Picture(f"{base}_pareto", over, pareto_chart(series), why_not)


def comparison_pictures(found: Comparison, name: str) -> Iterator[Picture]:
    """Return the pictures of a comparison: what changed, and the load curves of both sides.

    The first has the name alone, the others `<name>_load`, of several scenarios with theirs.
    """
    runs = [
        run
        for level in found.levels
        for pair in level.pairs
        for run in (*pair.a.runs, *pair.b.runs)
    ]
    against = f"{shown_name(found.b)} against {shown_name(found.a)}"
    setup = setup_words(runs) if runs else "unpaired runs"
    why_not = "no figure is known of both sides"
    yield Picture(name, Heading(against, setup, answer(found)), effects_chart(found), why_not)
    overlays = load_overlays(found)
    for scenario, chart in overlays:
        title = f"{shown_name(found.a)} and {shown_name(found.b)} against load"
        more = f"_{slug(scenario)}" if len(overlays) > 1 else ""
        over = Heading(f"{title}: {scenario}", setup, "")
        yield Picture(f"{name}{more}_load", over, chart)


def search_pictures(search: Search) -> Iterator[Picture]:
    """Return a picture of a search for each tier: `<id>`, of slo_tiers `<id>_<tier>`."""
    scenario = search.scenario
    stand_in = " · simulated server" if search.server.get("simulator") else ""
    setup = f"{scenario.get('model')} · {scenario.get('dataset')}{stand_in}"
    answers = zip(search.found, answer_lines(search), strict=False)  # the last says why it ended
    for found, words in answers:
        name = f"{search.id}_{slug(found.tier)}" if found.tier else search.id
        tier = f", {found.tier}" if found.tier else ""
        over = Heading(f"Capacity: {scenario.get('name')}{tier}", setup, words)
        yield Picture(name, over, search_chart(search, found), "no run was made")


def _title(metric: str, load: Load) -> str:
    """Return what is drawn for a metric at a load."""
    schedule = headline_metric(metric, load) != metric
    return f"{NAMES[metric]} from schedule" if schedule else NAMES[metric]


def _short(metric: str) -> str:
    return metric.removesuffix("_ms")


def heading(title: str, runs: Sequence[RunSummary]) -> Heading:
    """Return a picture's heading: what was measured, on what, and the verdict."""
    requests, counted = sum(r.requests for r in runs), sum(r.counted for r in runs)
    count = f"{sum(r.succeeded for r in runs):,} of {requests:,} request{'s' * (requests != 1)}"
    of = f" · figures of {counted:,}" if counted != requests else ""
    doubted = [r for r in runs if r.verdict.doubts]
    reasons = ", ".join(sorted({f.code for r in doubted for f in r.verdict.doubts}))
    verdict = f"{headline(runs)} ({reasons})" if doubted else headline(runs)
    if len(runs) == 1:
        verdict = verdict.removeprefix("1 ")
    return Heading(title, f"{setup_words(runs)} · {count} succeeded{of}", f"Verdict: {verdict}")
