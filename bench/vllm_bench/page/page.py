"""The report as one HTML file that opens offline: what people look at, and nothing from outside.

A content security policy in the page forbids every request, and names by hash the scripts that
may run, so that foreign text could run nothing even if it got through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..charts.pen_plotly import run_names
from ..charts.report_curves import curve_charts
from ..charts.report_load import times_charts
from ..charts.report_text import policy_hash, script_json, script_source
from ..charts.report_throughput import pareto_chart, throughput_chart
from ..charts.report_timeline_chart import timeline_chart
from ..records.text import printable
from ..summary.again import Again, again
from ..summary.environment import environment
from ..summary.levels import Series, series_of
from ..summary.summary import RunSummary
from ..tables.level_lines import repeat_lines, stability_lines
from ..tables.server_lines import server_lines
from ..tables.text_tables import footnotes, setup_words
from .report_details import clocks, figures_table, turns_table
from .report_run import ReportedRun
from .tables import Table, beside_table, levels_table, runs_table
from .verdicts import Key, Outcomes, key_figures, outcomes, verdicts

PARTS = Path(__file__).with_name("report")
ERROR_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A scenario on one server: all that the page shows of it."""

    place: str  # its id in the page
    name: str
    setup: str
    description: str
    keys: Sequence[Key]
    outcomes: Outcomes | None
    levels: Table
    runs: Table
    beside: Table | None
    turns: Table | None
    beside_lines: Sequence[str]
    figures: Table
    lines: Sequence[str]
    footnotes: Sequence[str]
    errors: Sequence[tuple[str, str, int, str]]
    load: Sequence[dict[str, Any]]
    curves: Sequence[dict[str, Any]]
    timelines: Sequence[tuple[str, dict[str, Any]]]
    again: Again | None
    simulated: bool


def to_html(runs: Sequence[ReportedRun]) -> str:
    """Return the report of runs that are sorted as summaries are."""
    summaries = [run.summary for run in runs]
    sections = [
        _section(f"s{place}", series, runs) for place, series in enumerate(series_of(summaries))
    ]
    sources = {name: _script(name) for name in ("theme.js", "plotly", "page.js")}
    return _template().render(
        verdicts=verdicts(summaries),
        sections=sections,
        simulated=sum(s.simulated for s in summaries),
        runs=summaries,
        begun=min((s.started_utc for s in summaries if s.started_utc), default=""),
        environment=_environment(summaries),
        policy=_policy(sources.values()),
        style=Markup((PARTS / "style.css").read_text()),  # noqa: S704  # our own file
        scripts={name: Markup(text) for name, text in sources.items()},  # noqa: S704
        data=Markup(script_json({s.place: _charts(s) for s in sections})),  # noqa: S704
    )


def _environment(summaries: Sequence[RunSummary]) -> list[tuple[str, str]]:
    told = clocks(summaries)
    return [*environment(summaries), *([("clocks", told)] if told else [])]


def _section(place: str, series: Series, runs: Sequence[ReportedRun]) -> Section:
    own = [run for run in runs if any(run.summary is s for s in series.runs)]
    own.sort(key=lambda run: run.summary.load)
    found = [run.summary for run in own]
    description = next((d for s in found if (d := s.setting("description"))), "")
    return Section(
        place=place,
        name=printable(series.scenario),
        setup=printable(setup_words(found)),
        description=printable(description, 500),
        keys=key_figures(series),
        outcomes=outcomes(series),
        levels=levels_table(series),
        runs=runs_table(found),
        beside=beside_table(found),
        turns=turns_table(found),
        beside_lines=server_lines(series),
        figures=figures_table(found),
        lines=[*stability_lines(series), *repeat_lines(series)],
        footnotes=footnotes(found),
        errors=list(_errors(found)),
        load=_load_charts(series),
        curves=curve_charts([(run.summary, run.curves) for run in own]),
        timelines=_timelines(own),
        again=again(series),
        simulated=any(s.simulated for s in found),
    )


def _load_charts(series: Series) -> list[dict[str, Any]]:
    """Return the charts against load; none where there is one level."""
    if len(series.levels) < 2:
        return []
    found = [*times_charts(series), throughput_chart(series), pareto_chart(series)]
    return [chart for chart in found if chart]


def _errors(summaries: Sequence[RunSummary]) -> Iterator[tuple[str, str, int, str]]:
    for summary in summaries:
        for group in summary.errors:
            words = printable(group.example, ERROR_WORDS)
            yield summary.load.words, printable(group.kind), group.count, words


def _timelines(runs: Sequence[ReportedRun]) -> list[tuple[str, dict[str, Any]]]:
    """Return each run's timeline with its name in the list to choose from."""
    names = run_names([run.summary for run in runs])
    return [
        (f"{name} ({run.summary.verdict.level})", timeline_chart(run.timeline))
        for name, run in zip(names, runs, strict=True)
        if run.timeline is not None
    ]


def _charts(section: Section) -> dict[str, Any]:
    """Return what the page's script draws."""

    def drawn(chart: dict[str, Any]) -> dict[str, Any]:
        return {key: chart[key] for key in ("data", "layout", "group") if key in chart}

    return {
        "load": [drawn(chart) for chart in section.load],
        "curves": [drawn(chart) for chart in section.curves],
        "timelines": [{**drawn(c), "note": c["note"]} for _, c in section.timelines],
    }


def _template() -> jinja2.Template:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found.get_template("template.html")


@cache
def _script(name: str) -> str:
    """Return a script of ours, or plotly's own from the installed package."""
    if name == "plotly":
        from plotly.offline import get_plotlyjs

        return script_source(get_plotlyjs())
    return script_source((PARTS / name).read_text())


def _policy(scripts: Any) -> str:
    """Return the page's content security policy. Styles: plotly sets its own."""
    hashes = " ".join(policy_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
