"""The report's charts: that plotly knows all of it, and that they show what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly import graph_objects
from vllm_bench.charts.pen_plotly import P_LOOKS, level_look
from vllm_bench.charts.report_curves import curve_charts
from vllm_bench.charts.report_load import times_charts
from vllm_bench.charts.report_throughput import pareto_chart, throughput_chart
from vllm_bench.charts.report_timeline_chart import timeline_chart
from vllm_bench.figures.statistics import PERCENTILES
from vllm_bench.page.report_run import points_each
from vllm_bench.summary.levels import series_of

from tests.end_to_end.watched import observed_gpus
from tests.page.reported import HOSTILE, level_records, reported, write_level
from tests.support.made_runs import failed_record, gpu_row, whole_reply_record, write_gpu_rows

STYLE = (Path(__file__).resolve().parents[2] / "bench/vllm_bench/page/report/style.css").read_text()


@pytest.fixture
def runs(tmp_path):
    return reported(*(write_level(tmp_path, streams) for streams in (1, 8, 64)))


@pytest.fixture
def series(runs):
    (found,) = series_of([run.summary for run in runs])
    return found


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


def every_chart(runs, series) -> list[dict[str, Any]]:
    return [
        *times_charts(series),
        throughput_chart(series),
        pareto_chart(series),
        *curve_charts([(run.summary, run.curves) for run in runs]),
        *(timeline_chart(run.timeline) for run in runs),
    ]


def test_plotly_knows_every_property_of_every_chart(runs, series):
    charts = every_chart(runs, series)
    assert len(charts) == 3 + 2 + 4 + 3
    for chart in charts:
        graph_objects.Figure(coloured({"data": chart["data"], "layout": chart["layout"]}))


def test_plotly_would_refuse_a_property_that_it_does_not_know():
    with pytest.raises(ValueError, match="colour"):
        graph_objects.Figure({"data": [{"type": "scatter", "line": {"colour": "#123456"}}]})


def test_every_colour_is_a_variable_of_the_style_in_light_and_in_dark(runs, series):
    light, dark = STYLE.split(':root[data-theme="dark"]')[:2]
    used = {name[1:] for chart in every_chart(runs, series) for name in colours(chart)}
    used |= {level_look(place, 9)["color"][1:] for place in range(9)}
    for theme in (light, dark.split("}")[0]):
        assert used <= set(re.findall(r"--([\w-]+):", theme))


def test_both_themes_have_the_same_variables():
    light, dark = (part.split("}")[0] for part in STYLE.split(":root", 2)[1:])
    assert set(re.findall(r"--[\w-]+", light)) == set(re.findall(r"--[\w-]+", dark))


def test_against_load_a_line_runs_through_the_levels_with_their_intervals(series):
    ttft = times_charts(series)[0]
    p95 = next(trace for trace in ttft["data"] if trace["name"] == "p95")
    runs = [level.runs[0] for level in series.levels]
    assert p95["x"] == [1, 8, 64]
    assert p95["y"] == pytest.approx([r.percentile("ttft_ms", 95) for r in runs], rel=1e-4)
    high = [r.distributions["ttft_ms"].interval(95).high for r in runs]
    assert np.add(p95["y"], p95["error_y"]["array"]) == pytest.approx(high, rel=1e-3)
    assert "optimistic" in p95["customdata"][0][0]


def test_an_objective_is_a_line_at_its_limit_in_its_own_chart_alone(series):
    ttft, tpot, _ = times_charts(series)
    (line,) = [t for t in ttft["data"] if t["name"].startswith("objective")]
    assert line["name"] == "objective: TTFT p95 ≤ 500 ms"
    assert line["y"] == [500, 500, 500]
    assert not [t for t in tpot["data"] if t["name"].startswith("objective")]


def test_an_objective_brings_its_percentile(tmp_path):
    slo = {"slo": {"ttft_ms": {"p90": 500.0}}}
    (series,) = series_of(
        [r.summary for r in reported(*(write_level(tmp_path, s, scenario=slo) for s in (1, 8)))]
    )
    ttft, tpot, _ = times_charts(series)
    assert [t["name"] for t in ttft["data"][:4]] == ["p50", "p90", "p95", "p99"]
    assert "p90" not in [t["name"] for t in tpot["data"]]
    assert set(P_LOOKS) == set(PERCENTILES)


def test_repeats_have_an_interval_over_the_runs_and_a_ring_each(tmp_path):
    paths = [write_level(tmp_path, s, repeat=n) for s in (1, 8) for n in range(3)]
    (series,) = series_of([run.summary for run in reported(*paths)])
    ttft = times_charts(series)[0]
    line, rings = ttft["data"][:2]
    assert len(line["x"]) == 2
    assert "over 3 runs" in line["customdata"][0][0]
    assert len(rings["x"]) == 6
    assert rings["showlegend"] is False


def test_a_level_that_is_not_valid_has_a_hollow_mark(tmp_path):
    failed = [failed_record(i, run_id="bad", concurrency=8) for i in range(350, 400)]
    bad = write_level(tmp_path, 8, records=[*level_records(8, count=350, run_id="bad"), *failed])
    runs = reported(write_level(tmp_path, 1), bad)
    (series,) = series_of([run.summary for run in runs])
    line = times_charts(series)[0]["data"][0]
    assert line["marker"]["symbol"] == ["circle", "circle-open"]
    assert "INVALID" in line["customdata"][1][1]


def test_gaps_between_tokens_count_by_token(tmp_path):
    (run,) = reported(write_level(tmp_path, 4))
    charts = curve_charts([(run.summary, run.curves)])
    assert [c["layout"]["yaxis"]["title"]["text"] for c in charts] == [
        "% of requests",
        "% of requests",
        "% of tokens",
        "% of waits",
    ]


def test_a_thinned_curve_says_so_and_a_whole_one_does_not(tmp_path):
    path = write_level(tmp_path, 8)
    (thin,), (whole,) = reported(path, most=50), reported(path, most=500)
    for run, told in ((thin, True), (whole, False)):
        chart = curve_charts([(run.summary, run.curves)])[0]
        assert ("fewer points" in chart["note"]) is told
        trace = chart["data"][0]
        ttft = run.summary.distributions["ttft_ms"]
        assert (trace["x"][0], trace["x"][-1]) == pytest.approx((ttft.min, ttft.max), rel=1e-4)


def test_a_run_without_any_success_has_no_curve(tmp_path):
    records = [failed_record(i) for i in range(10)]
    (run,) = reported(write_level(tmp_path, 4, records=records, tokens=False))
    assert run.curves == {}
    assert curve_charts([(run.summary, run.curves)]) == []


def test_more_runs_have_fewer_points_each():
    assert points_each(1) == points_each(10) == 500
    assert 60 == points_each(1000) < points_each(50) < 500


def panels(chart: dict[str, Any]) -> list[str]:
    layout = chart["layout"]
    return [layout[k]["title"]["text"] for k in layout if k.startswith("yaxis")]


def test_the_timeline_has_what_was_measured_and_no_empty_panel(runs):
    chart = timeline_chart(runs[1].timeline)
    assert panels(chart) == ["requests/s", "requests", "tokens/s", "TTFT (ms)"]
    window = runs[1].summary.window
    (shade,) = chart["layout"]["shapes"]
    assert (shade["x0"], shade["x1"]) == pytest.approx((window.start_s, window.end_s), rel=1e-4)


def test_without_streaming_the_dots_are_latencies(tmp_path):
    records = [whole_reply_record(i) for i in range(40)]
    path = write_level(tmp_path, 4, records=records, tokens=False, scenario={"stream": False})
    (run,) = reported(path)
    chart = timeline_chart(run.timeline)
    assert panels(chart) == ["requests/s", "requests", "latency (ms)"]
    (dots,) = [t for t in chart["data"] if t["name"] == "latency"]
    assert len(dots["y"]) == 40


def test_failures_are_crosses_with_the_servers_words_made_harmless(tmp_path):
    records = level_records(4, count=20)
    records += [failed_record(20, error=HOSTILE, run_id="made-cc4-0")]
    (run,) = reported(write_level(tmp_path, 4, records=records))
    (failed,) = [t for t in timeline_chart(run.timeline)["data"] if t["name"] == "failed"]
    (words,) = failed["hovertext"]
    assert "http_5xx" in words
    assert re.sub("<br>", "", words).count("<") == 0
    assert "$" not in words
    assert "{" not in words


def test_two_gpus_one_throttled_and_one_lost_are_told_apart(tmp_path):
    path = write_level(tmp_path, 4, observed=observed_gpus(0, 1))
    tenths = [tenth / 10 for tenth in range(1000)]
    slow = [
        gpu_row(t, gpu_index=0, throttle_reasons="hw_slowdown" if 20 < t < 30 else "none")
        for t in tenths
    ]
    lost = [gpu_row(t, gpu_index=1) for t in tenths if not 40 < t < 60]
    write_gpu_rows(path, sorted([*slow, *lost], key=lambda row: row.t_s))
    (run,) = reported(path)
    chart = timeline_chart(run.timeline)
    assert panels(chart)[-3:] == ["GPU<br>busy (%)", "power (W)", "temp. (°C)"]
    throttled, *_ = (t for t in chart["data"] if t["name"] == "throttled")
    assert [at for at in throttled["x"] if at is not None] == [20.1, 30]
    assert "GPU 0: clocks held down (hw_slowdown)" in throttled["hovertemplate"]
    whole, broken = (
        next(t for t in chart["data"] if t["name"] == name and t["yaxis"] == "y6")
        for name in ("GPU 0", "GPU 1")
    )
    assert None not in whole["y"]
    assert broken["y"].count(None) == 1  # the line isn't drawn over the time that it was lost
    gap = broken["y"].index(None)
    assert broken["x"][gap - 1] <= 40
    assert broken["x"][gap + 1] >= 60


def test_no_rows_at_all_make_a_timeline_too(tmp_path):
    (run,) = reported(write_level(tmp_path, 4, count=1))
    graph_objects.Figure(coloured({k: timeline_chart(run.timeline)[k] for k in ("data", "layout")}))


def test_curves_need_no_stamps(tmp_path):
    (run,) = reported(write_level(tmp_path, 4, tokens=False))
    assert set(run.curves) == {"ttft_ms", "latency_ms"}
