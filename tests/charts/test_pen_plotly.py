"""The report's charts: that plotly knows all of it, and that it shows what the chart says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly import graph_objects
from vllm_bench.charts.against_load import load_charts
from vllm_bench.charts.capacity.pareto import pareto_chart
from vllm_bench.charts.chart import (
    LEVELS,
    LIGHT,
    SERIES,
    Axis,
    Band,
    Chart,
    Line,
    Panel,
    Rule,
    css,
    level_colour,
    series_colour,
)
from vllm_bench.charts.distributions import DRAWN, overlay
from vllm_bench.charts.pen_plotly import chart_text, for_page, hover_lines
from vllm_bench.summary.levels import series_of

from tests.page.reported import HOSTILE, reported, write_level

ANY = st.text(max_size=200)


@pytest.fixture
def charts(tmp_path) -> list[dict[str, Any]]:
    """Every chart of a page of three levels."""
    runs = reported(*(write_level(tmp_path, streams) for streams in (1, 8, 64)))
    (series,) = series_of([run.summary for run in runs])
    curves = {id(run.summary): run.curves for run in runs}
    found = [*load_charts(series), pareto_chart(series)]
    drawn = [overlay(series, curves, metric) for metric in DRAWN if metric != "ttfa_ms"]
    found += [chart for chart in drawn if chart]
    found += [run.timeline for run in runs]
    return [for_page(chart) for chart in found]


def one(*lines: Line, **panel: Any) -> Chart:
    """Return a chart of one panel."""
    found = Panel(y=Axis(words="y", unit="ms"), lines=lines, **panel)
    return Chart(title="t", doc="d", x=Axis(words="x", unit="s"), panels=[found])


def line(**changes: Any) -> Line:
    values = np.array([1.0, 2, 4])
    return Line(**{"name": "p50", "x": values, "y": values * 10, **changes})


def traces(chart: Chart) -> list[dict[str, Any]]:
    """Return its traces, which plotly knows."""
    found = for_page(chart)
    graph_objects.Figure(coloured({"data": found["data"], "layout": found["layout"]}))
    return list(found["data"])


def colours(value: Any) -> set[str]:
    """Every colour's name in a chart."""
    if isinstance(value, str):
        return {value} if value.startswith("@") else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for part in parts for name in colours(part)}


def coloured(value: Any) -> Any:
    """A chart with a colour in each name's place."""
    if isinstance(value, str):
        return "#123456" if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: coloured(part) for key, part in value.items()}
    return [coloured(part) for part in value] if isinstance(value, list) else value


def test_plotly_knows_every_property_of_every_chart(charts):
    assert len(charts) == 4 + 1 + 4 + 3
    for chart in charts:
        graph_objects.Figure(coloured({"data": chart["data"], "layout": chart["layout"]}))


def test_plotly_would_refuse_a_property_that_it_does_not_know():
    with pytest.raises(ValueError, match="colour"):
        graph_objects.Figure({"data": [{"type": "scatter", "line": {"colour": "#123456"}}]})


def test_every_colour_is_a_variable_of_the_page(charts):
    used = {name[1:] for chart in charts for name in colours(chart)}
    used |= {level_colour(place, 9) for place in range(9)} | {series_colour(n) for n in range(9)}
    assert used <= set(re.findall(r"--(\w+):", css(LIGHT)))
    assert len({level_colour(place, LEVELS) for place in range(LEVELS)}) == LEVELS
    assert len({series_colour(place) for place in range(SERIES)}) == SERIES


@given(text=ANY)
def test_no_text_in_a_chart_is_a_tag_a_template_or_a_formula(text):
    for safe in (chart_text(text), hover_lines(text).replace("<br>", "")):
        assert not set(safe) & set("<>{}$")


def test_text_in_a_chart_is_shown_as_it_is_once_plotly_has_read_its_entities():
    assert chart_text("a<b>&$x$%{y}") == "a&lt;b&gt;&amp;&#36;x&#36;%&#123;y&#125;"


def test_untrusted_names_and_words_are_harmless():
    (trace,) = traces(one(line(name=HOSTILE, words=[HOSTILE] * 3, hover="{name} {words}")))
    template = trace["hovertemplate"].replace("%{hovertext}", "").replace("<extra></extra>", "")
    for text in (trace["name"], template, *trace["hovertext"]):
        assert not set(text.replace("<br>", "")) & set("<>{}$")


def test_a_line_has_its_points_and_intervals():
    low, high = np.array([9.0, np.nan, 35]), np.array([12.0, np.nan, 50])
    (trace,) = traces(one(line(low=low, high=high, words=["a", "b", "c"])))
    assert (trace["x"], trace["y"]) == ([1, 2, 4], [10, 20, 40])
    assert trace["error_y"]["array"] == [2, 0, 10]
    assert trace["error_y"]["arrayminus"] == [1, 0, 5]
    assert trace["hovertext"] == ["a", "b", "c"]


def test_hovering_says_name_figure_and_place_with_their_units():
    (plain,) = traces(one(line()))
    assert plain["hovertemplate"] == "p50: %{y:,.5~g} ms<br>at %{x:,.5~g} s<extra></extra>"
    (own,) = traces(one(line(hover="{name}\n{y}/{x}")))
    assert own["hovertemplate"] == "p50<br>%{y:,.5~g}/%{x:,.5~g}<extra></extra>"


def test_a_mark_of_what_is_not_believed_is_hollow_and_a_gap_stays_a_gap():
    trace, hollow = traces(one(line(y=np.array([1, np.nan, 3])), line(role="hollow")))
    assert (trace["marker"]["symbol"], hollow["marker"]["symbol"]) == ("circle", "circle-open")
    assert trace["y"] == [1, None, 3]


def test_the_legend_names_each_line_once_and_groups_what_belongs_together():
    repeats = line(name="one run's p50", role="repeats", legend=None, group="p50")
    first, second, other = traces(one(line(), repeats, line(legend="p50, n 400")))
    assert (first["showlegend"], second["showlegend"]) == (True, False)
    assert first["legendgroup"] == second["legendgroup"] == "p50"
    assert (other["name"], other["showlegend"]) == ("p50, n 400", True)
    panels = Panel(y=Axis(words="y"), lines=[line()])
    twice = Chart(title="t", doc="d", x=Axis(words="x"), panels=[panels, panels])
    assert [trace["showlegend"] for trace in traces(twice)] == [True, False]


def test_an_objective_lies_across_and_a_knee_stands_upright():
    rules = [Rule("objective", 25.0), Rule("knee", 2.0, upright=True, words="used up")]
    _, objective, knee = traces(one(line(), rules=rules))
    assert (objective["x"], objective["y"]) == ([1, 4], [25, 25])
    assert (knee["x"], knee["y"]) == ([2, 2], [0, 40])
    assert knee["hovertemplate"].startswith("used up")


def test_a_window_is_a_shade_and_held_clocks_a_bar_along_the_top():
    bands = [
        Band(name="steady window", spans=[(1, 3)], role="window"),
        Band(name="clocks throttled", spans=[(1, 2), (3, 4)], role="throttled"),
    ]
    _, held = traces(one(line(), bands=bands))
    assert held["x"] == [1, 2, None, 3, 4, None]
    assert min(held["y"]) > 40
    (shade,) = for_page(one(line(), bands=bands))["layout"]["shapes"]
    assert (shade["x0"], shade["x1"], shade["name"]) == (1, 3, "steady window")


def test_panels_lie_over_each_other_and_share_the_time():
    panels = [Panel(y=Axis(words=f"{n}\nms"), lines=[line()]) for n in range(3)]
    found = for_page(Chart(title="t", doc="d", x=Axis(words="s", span=(0, 5)), panels=panels))
    layout = found["layout"]
    assert [layout[k]["title"]["text"] for k in ("yaxis", "yaxis2", "yaxis3")] == [
        "0<br>ms",
        "1<br>ms",
        "2<br>ms",
    ]
    tops = [layout[k]["domain"][1] for k in ("yaxis", "yaxis2", "yaxis3")]
    assert tops == sorted(tops, reverse=True)
    assert (layout["xaxis"]["anchor"], layout["xaxis"]["range"]) == ("y3", [-0.05, 5.05])
    assert [trace["yaxis"] for trace in found["data"]] == ["y", "y2", "y3"]


def test_a_run_of_one_request_has_charts_too(tmp_path):
    (run,) = reported(write_level(tmp_path, 4, count=1))
    traces(run.timeline)


def test_curves_need_no_stamps(tmp_path):
    (run,) = reported(write_level(tmp_path, 4, tokens=False))
    assert set(run.curves) == {"ttft_ms", "latency_ms"}
