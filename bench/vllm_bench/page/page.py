"""The report as one HTML file that opens offline and loads nothing from outside.

The page's HTML is escaped by jinja2. Scripts are not HTML: JSON inside a script element is made
safe here, and a content security policy forbids every request and names by hash the scripts that
may run, so that untrusted text can't run anything even if it got through.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import orjson
from markupsafe import Markup

from ..charts.against_load import load_charts
from ..charts.by_class.fairness import fairness_chart
from ..charts.by_class.levels import classes_against_load
from ..charts.capacity.pareto import pareto_chart
from ..charts.chart import DARK, LIGHT, Chart, css
from ..charts.distributions import DRAWN, by_class, overlay
from ..charts.over_time import Room
from ..charts.pen_plotly import for_page
from ..charts.pictures import OVERLAID, DrawnRun, all_series
from ..classes.fairness import Fairness, fairness, fairness_lines
from ..records.text import printable
from ..summary.again import again
from ..summary.environment import environment
from ..summary.levels import Series
from ..summary.summary import RunSummary, sorted_summaries, with_classes
from ..tables.level_lines import answer_lines, repeat_lines, server_lines, stability_lines
from ..tables.machines.machine_lines import left_out
from ..tables.text_tables import footnotes, population, setup_words, unbounded
from .key_figures import key_figures
from .tables import (
    Table,
    errors_table,
    figures_table,
    levels_table,
    machines_table,
    runs_table,
    server_table,
    turns_table,
)
from .verdicts import objectives, verdicts
from .which import which_is_better

PARTS = Path(__file__).with_name("report")
MOST_POINTS = 500  # per curve or line in a report of few runs
LEAST_POINTS = 60
POINTS_IN_ALL = 6000  # over the runs, so that the page of a hundred of them still opens


def room_for(runs: int) -> Room:
    """Return how many points each chart may have in a report of this many runs."""
    most = max(LEAST_POINTS, min(MOST_POINTS, POINTS_IN_ALL // max(runs, 1)))
    return Room(curve=most, line=most, dots=2 * most)


def to_html(runs: Sequence[DrawnRun]) -> str:
    """Return the report of runs, in the order of their summaries."""
    summaries = sorted_summaries([run.summary for run in runs])
    drawn = {id(run.summary): run for run in runs}
    # What was asked for last comes first, classes alone after all mixes.
    newest = sorted(
        all_series(runs), key=lambda one: max(run.began_s for run in one[1].runs), reverse=True
    )
    named = sorted(newest, key=lambda one: one[1].runs[0].plan("alone") is not None)
    fair = fairness([series for _, series in named])
    sections = {
        f"s{place}": _section(name, series, [drawn[id(summary)] for summary in series.runs], fair)
        for place, (name, series) in enumerate(named)
    }
    sources = {name: _script(name) for name in ("theme.js", "plotly", "page.js")}
    colours = f':root {{{css(LIGHT)}}}\n:root[data-theme="dark"] {{{css(DARK)}}}\n'
    charts = {place: section["charts"] for place, section in sections.items()}
    which = which_is_better(summaries)
    if which is not None:
        charts["which"] = which["charts"]
    style = colours + (PARTS / "style.css").read_text(encoding="utf-8")
    return _template().render(
        verdicts=verdicts(summaries, named),
        sections=sections,
        which=which,
        simulated=sum(s.simulated for s in summaries),
        runs=summaries,
        begun=min((s.started_utc for s in summaries if s.started_utc), default=""),
        environment=[*environment(summaries), *_clocks(summaries)],
        policy=_policy(sources),
        style=Markup(style),  # noqa: S704  # our own
        scripts={name: Markup(text) for name, text in sources.items()},  # noqa: S704
        data=Markup(script_json(charts)),  # noqa: S704
    )


def _section(
    name: str, series: Series, drawn: Sequence[DrawnRun], fair: Sequence[Fairness]
) -> dict[str, Any]:
    """Return all that the page shows of a scenario on one server."""
    runs, own = series.runs, [one for one in fair if one.scenario == name]
    description = next((found for s in runs if (found := s.setting("description"))), "")
    timelines = [
        (f"{run_name} ({run.summary.verdict.level})", for_page(run.timeline))
        for (run_name, _), run in zip(series.run_words, drawn, strict=True)
        if run.timeline is not None
    ]
    curves = {id(run.summary): run.curves for run in drawn}
    distributions = [chart for m in DRAWN if (chart := overlay(series, curves, m)) is not None]
    return {
        "name": printable(name),
        "setup": printable(setup_words(runs)),
        "population": population(series),
        "description": printable(description, 500),
        "simulated": any(s.simulated for s in runs),
        "key_figures": key_figures(series),
        "objectives": objectives(series),
        "levels": levels_table(series),
        **_tables(runs),
        "fairness": [line for one in own for line in fairness_lines(one)],
        "lines": _lines(series),
        "machine_lines": left_out(series),
        "server_lines": server_lines(series),
        "footnotes": footnotes(series),
        "again": again(series, name),
        "timelines": [run_name for run_name, _ in timelines],
        "charts": {
            "load": _load_charts(series),
            "curves": [for_page(chart) for chart in distributions],
            "classes": [for_page(chart) for chart in _class_charts(series, drawn, own)],
            "timelines": [chart for _, chart in timelines],
        },
    }


def _tables(runs: Sequence[RunSummary]) -> dict[str, Table | None]:
    """Return the tables whose rows are of runs, or of parts of them."""
    return {
        "runs": runs_table(with_classes(runs)),
        "server": server_table(runs),
        "machines": machines_table(runs),
        "turns": turns_table([run for run in with_classes(runs) if not run.classes]),
        "errors": errors_table(runs),
        "figures": figures_table(with_classes(runs)),
    }


def _lines(series: Series) -> list[str]:
    """Return what is said under the table of levels."""
    told = (answer_lines, stability_lines, repeat_lines, unbounded)
    return [line for lines in told for line in lines(series)]


def _class_charts(
    series: Series, drawn: Sequence[DrawnRun], fair: Sequence[Fairness]
) -> Iterator[Chart]:
    """Yield the charts of classes: fairness, against load, and the last run's distributions."""
    found = fairness_chart(fair), classes_against_load(series) if len(series.levels) > 1 else None
    yield from (chart for chart in found if chart is not None)
    last = drawn[-1]
    for metric in OVERLAID if last.classes else ():
        chart = by_class(last.summary, last.classes, metric)
        if chart is not None:
            yield replace(chart, title=f"{chart.title} by class, {last.summary.load.words}")


def _load_charts(series: Series) -> list[dict[str, Any]]:
    """Return the charts against load; none where there is one level."""
    if len(series.levels) < 2:
        return []
    pareto = pareto_chart(series)
    return [for_page(chart) for chart in (*load_charts(series), *([pareto] if pareto else []))]


def _clocks(summaries: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return how far the wall clock moved against the monotonic one, in the worst run."""
    drifts = []
    for info in (summary.info for summary in summaries):
        if info is not None and info.clock_end is not None:
            start, end = info.clock_start, info.clock_end
            monotonic_s = (end.monotonic_ns - start.monotonic_ns) / 1e9
            drifts.append(1000 * (end.wall_s - start.wall_s - monotonic_s))
    if not drifts:
        return []
    worst = max(drifts, key=abs)
    return [("clocks", f"wall clock against monotonic: {worst:+.2f} ms over a run, at most")]


def _template() -> jinja2.Template:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found.get_template("template.html")


# ---- scripts ----


@cache
def _script(name: str) -> str:
    """Return a script of ours, or plotly's own from the installed package."""
    if name == "plotly":
        from plotly.offline import get_plotlyjs

        return script_source(get_plotlyjs())
    return script_source((PARTS / name).read_text(encoding="utf-8"))


def script_source(text: str) -> str:
    """Return a script so that it can stand inside its element: the browser would rewrite a carriage
    return before it computes the hash, and `</script` in a string would end the element.
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def script_json(document: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it can end the element."""
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy_hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _policy(scripts: Mapping[str, str]) -> str:
    """Return the page's content security policy. Styles: plotly sets its own."""
    hashes = " ".join(policy_hash(script) for script in scripts.values())
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
