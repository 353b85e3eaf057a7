"""The report and the pictures draw the same figures of the same runs."""

from __future__ import annotations

from typing import Any

import pytest
from vllm_bench.charts.cdf_figure import cdf_figure
from vllm_bench.charts.load_figure import load_figure
from vllm_bench.charts.report_curves import curve_charts
from vllm_bench.charts.report_load import times_charts
from vllm_bench.charts.report_throughput import throughput_chart
from vllm_bench.charts.report_timeline_chart import timeline_chart
from vllm_bench.charts.timeline import timeline
from vllm_bench.charts.timeline_figure import timeline_figure
from vllm_bench.summary.levels import series_of

from tests.charts.drawn import facts_at, plotted_at
from tests.page.reported import reported, write_level


@pytest.fixture
def paths(tmp_path):
    return [write_level(tmp_path, s, repeat=n) for s in (1, 8) for n in range(3)]


def named(lines: Any, name: str) -> Any:
    return next(line for line in lines if line.get_label().partition("\n")[0] == name)


def trace_of(chart: dict[str, Any], name: str) -> dict[str, Any]:
    return next(t for t in chart["data"] if t["name"].partition(" (")[0] == name)


def same(trace: dict[str, Any], line: Any) -> None:
    assert trace["x"] == pytest.approx(list(line.get_xdata()), rel=1e-4)
    assert trace["y"] == pytest.approx(list(line.get_ydata()), rel=1e-4)


def test_lines_against_load_are_the_same(paths):
    (series,) = series_of([run.summary for run in reported(*paths)])
    *drawn, tokens = load_figure(series).axes
    for chart, axes in zip(times_charts(series), drawn, strict=True):
        for name in ("p50", "p95"):
            same(trace_of(chart, name), named(axes.lines, name))
    same(trace_of(throughput_chart(series), "output tokens/s"), named(tokens.lines, "throughput"))


def test_distributions_are_the_same(paths):
    (run,) = reported(paths[0], most=10_000)
    chart = curve_charts([(run.summary, run.curves)])[0]
    line = cdf_figure(plotted_at(paths[0]), "ttft_ms").axes[0].lines[0]
    same(chart["data"][0], line)


def test_timelines_are_the_same(paths):
    (run,) = reported(paths[3], most=10_000)
    chart, found = timeline_chart(run.timeline), timeline(facts_at(paths[3]))
    lines = [line for axes in timeline_figure(run.summary, found).axes for line in axes.lines]
    for name in ("arrivals", "ended", "in flight", "output tokens"):
        line = next(line for line in lines if line.get_label().startswith(name))
        same(trace_of(chart, name), line)
    same(trace_of(chart, "TTFT"), named(lines, "succeeded: 400"))
