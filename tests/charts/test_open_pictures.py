"""Pictures of open loops: times from the schedule, and said so; the load is a rate."""

from __future__ import annotations

from vllm_bench.charts.cdf_figure import cdf_figure, overlay_figure
from vllm_bench.charts.load_figure import load_figure

from tests.charts.drawn import plotted_at, series_at, texts, written
from tests.support.open_runs import due_times, served, stalled


def test_a_distribution_of_an_open_loop_is_from_the_schedule_and_says_so(tmp_path):
    plotted = plotted_at(written(tmp_path, stalled(10.0, 400, from_s=10.0, to_s=12.0)))
    figure = cdf_figure(plotted, "ttft_ms")
    found = texts(figure)
    assert "Time to first token from schedule: made, 10 requests/s" in found
    assert "time to first token from schedule (ms" in found
    assert max(figure.axes[0].lines[0].get_xdata()) == 2100  # 2 s stalled, 0.1 s served
    p99 = plotted.summary.percentile("ttft_from_schedule_ms", 99)
    assert f"p99  {p99:.0f} ms" in found


def test_levels_are_rates_and_their_times_from_the_schedule(tmp_path):
    slo = {"scenario": {"slo": {"ttft_ms": {"p95": 700}}}}
    paths = []
    for rate in (2.0, 4.5, 16.0):
        due = due_times("poisson", rate, 100)
        records = served(due, rate, slots=8, service_s=1.0, run_id=f"at-{rate:g}")
        paths.append(written(tmp_path, list(records), **slo))
    series, runs = series_at(paths)
    figure = load_figure(series)
    figure.draw_without_rendering()  # ticks have their words from then on
    found = " ".join(texts(figure).split())  # an axis' name may have two lines
    for words in (
        "TTFT from schedule (ms)",
        "latency from schedule (ms)",
        "requests asked for a second",
        "objective: TTFT from schedule p95 ≤ 700 ms",
        "4.5",
    ):
        assert words in found
    overlay = texts(overlay_figure(series, runs, "latency_ms"))
    assert "Latency from schedule: made, by request rate" in overlay
    assert "4.5 requests/s, n 100" in overlay
