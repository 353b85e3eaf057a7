"""Against load: lines through levels, intervals, objectives, the knee; and the Pareto chart."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from vllm_bench.charts.against_load import NO_PART, PLACES, THROUGHPUT, against_load, load_charts
from vllm_bench.charts.capacity.pareto import pareto_chart
from vllm_bench.charts.chart import MANY, few_decades
from vllm_bench.charts.pen_plotly import for_page
from vllm_bench.stats.batches import Interval
from vllm_bench.stats.distribution import PERCENTILES
from vllm_bench.summary.capacity import pareto
from vllm_bench.summary.levels import Level, Series

from tests.charts.drawn import (
    by_name,
    legend_words,
    level,
    overflowing,
    picture,
    series_at,
    written,
)
from tests.support.made_runs import failed_record, made_record, whole_reply_record


@pytest.fixture
def series(tmp_path):
    """Write runs and return their series."""

    def made(runs, **changes):
        same = {"num_requests": 100, "max_new_tokens": 20, **changes.pop("scenario", {})}
        paths = [written(tmp_path, list(rows), scenario=same, **changes) for rows in runs]
        return series_at(paths)[0]

    return made


def ttft_p50(summary):
    return summary.percentile("ttft_ms", 50)


def lines_of(series, chart=0):
    return by_name(load_charts(series)[chart].lines)


def repeats_of(series, percentile):
    """The marks of single runs that belong to a percentile's line in the chart of TTFT."""
    lines = load_charts(series)[0].lines
    return next(line for line in lines if line.role == "repeats" and line.group == percentile)


def test_a_line_runs_through_all_rows_of_a_level_and_each_run_is_a_dot(series):
    found = series([level(c, repeat=n) for c in (1, 8) for n in range(3)])
    charts = load_charts(found)
    assert [chart.panels[0].y.words for chart in charts] == [
        "TTFT (ms)",
        "TPOT (ms)",
        "latency (ms)",
        "output tokens/s",
    ]
    pooled = [np.concatenate([r.samples["ttft_ms"].values for r in lv.runs]) for lv in found.levels]
    p50, dots = lines_of(found)["p50"], repeats_of(found, "p50")
    assert list(p50.x) == [1, 8]
    assert list(p50.y) == pytest.approx([np.percentile(rows, 50) for rows in pooled])
    assert sorted(dots.y) == pytest.approx(sorted(ttft_p50(r) for r in found.runs))
    assert dots.label is None
    rates = [
        math.exp(np.mean([math.log(r.throughput.output_tokens_per_s) for r in lv.runs]))
        for lv in found.levels
    ]
    assert list(lines_of(found, 3)["output tokens/s"].y) == pytest.approx(rates)


def test_intervals_are_those_of_the_levels_figures(series):
    for repeats in (1, 2, 3):
        names = range(10 * repeats, 11 * repeats)
        found = series([level(c, repeat=n) for c in (1, 8) for n in names])
        over = found.levels[0].distribution("ttft_ms").interval(50)
        line = lines_of(found)["p50"]
        assert (line.low[0], line.high[0]) == (over.low, over.high)
        assert f"of {repeats} run" in line.words[0]
    once = series([level(c) for c in (1, 8)])
    within = once.runs[0].distributions["ttft_ms"].interval(50)
    (bars,) = picture(load_charts(once)[0]).axes[0].containers[0].lines[2]
    assert bars.get_segments()[0][:, 1] == pytest.approx([within.low, within.high])


def without_bound(run, percentile):
    """The same run, its TTFT's interval without an upper bound."""
    ttft = run.distributions["ttft_ms"]
    low = ttft.interval(percentile).low
    endless = {**ttft.intervals, percentile: Interval(low, math.inf)}
    changed = dataclasses.replace(ttft, intervals=endless)
    return dataclasses.replace(run, distributions={**run.distributions, "ttft_ms": changed})


def test_an_interval_without_an_upper_end_is_an_arrow_and_says_so(series):
    whole = series([level(c) for c in (1, 8)])
    found = Series(tuple(Level((without_bound(lv.runs[0], 95),)) for lv in whole.levels))
    line = lines_of(found)["p95"]
    assert line.x.size == 2
    assert np.isinf(line.high).all()
    assert "without an upper bound" in line.words[0]
    figure = picture(load_charts(found)[0])
    arrows = [a for a in figure.axes[0].texts if getattr(a, "arrow_patch", None)]
    assert len(arrows) == sum(np.isinf(one.high).sum() for one in lines_of(found).values())
    assert overflowing(figure) == []
    drawn = for_page(load_charts(found)[0])["data"]
    trace = next(t for t in drawn if t["name"] == "p95")
    assert trace["error_y"]["array"] == [0.0, 0.0]
    tips = [t for t in drawn if t.get("mode") == "text"]
    assert sum(len(t["text"]) for t in tips) == len(arrows)
    assert next(t["y"] for t in tips if t["name"] == "p95") == trace["y"]


def test_a_level_whose_rows_together_have_a_percentile_has_it_and_shows_the_runs_that_do(series):
    found = series([level(1, repeat=n) for n in range(2)] + [level(8), level(8, 40, repeat=1)])
    assert list(lines_of(found)["p95"].x) == [1, 8]
    assert list(repeats_of(found, "p95").x) == [1, 1, 8]


def test_hits_of_the_prefix_cache_stand_beside_the_times_of_each_level(series):
    found = series([level(1, cached_tokens=0), level(8, cached_tokens=100)])
    assert "0 % at 1, 40 % at 8" in load_charts(found)[0].note
    assert "cache" not in load_charts(series([level(2), level(16)]))[0].note


def test_objectives_are_rules_and_bring_their_percentile(series):
    slo = {"ttft_ms": {"p90": 700.0}, "tpot_ms": {"p95": 60.0}, "success_rate": 0.99}
    found = series([level(c) for c in (1, 8)], scenario={"slo": slo})
    rules = [
        [(*rule.name.split()[1:3], rule.at) for rule in chart.panels[0].rules]
        for chart in load_charts(found)
    ]
    assert rules == [[("TTFT", "p90", 700)], [("TPOT", "p95", 60)], [], []]
    ttft, tpot = lines_of(found), lines_of(found, 1)
    assert list(ttft) == ["p50", "p90", "p95", "p99"]
    assert list(tpot) == ["p50", "p95", "p99"]
    assert (ttft["p95"].place, ttft["p95"].colour) == (tpot["p95"].place, tpot["p95"].colour)
    low, high = picture(load_charts(found)[0]).axes[0].get_ylim()
    assert low < 700 < high


def test_an_objective_on_output_is_a_rule_in_the_panel_of_throughput(series):
    slo = {"output_tokens_per_s": {"min": 700.0}, "requests_per_s": {"min": 3.0}}
    charts = load_charts(series([level(c) for c in (1, 8)], scenario={"slo": slo}))
    assert [[rule.at for rule in chart.panels[0].rules] for chart in charts] == [
        *([], [], []),
        [700],
    ]
    low, high = picture(charts[-1]).axes[0].get_ylim()
    assert low < 700 < high


def test_a_line_goes_through_all_panels_at_the_knee(series):
    def served(streams):  # 16 at once, however many wait
        for i in range(320):
            turn_s = max(streams, 16) / 16
            sent_s = (i // streams) * turn_s if streams >= 16 else i / streams
            fields = {"run_id": f"k{streams}", "latency_ms": 1000 * turn_s}
            yield made_record(i, concurrency=streams, t_sent_s=sent_s, **fields)

    chart = against_load(series([served(streams) for streams in (4, 8, 16, 32, 64)]))
    (knee,) = chart.panels[-1].rules
    assert (knee.at, knee.upright) == (16, True)
    figure = picture(chart)
    assert overflowing(figure) == []
    assert knee.name in legend_words(figure)
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [16, 16] for line in axes.lines)


def bad(streams, **changes):
    """Records of a level that is INVALID: a fifth of them failed."""
    fields = {"run_id": f"made-cc{streams}-{changes.get('repeat', 0)}", "concurrency": streams}
    return [*level(streams, **changes), *(failed_record(i, **fields) for i in range(400, 490))]


def test_an_invalid_level_is_hollow_marks_marked_under_its_tick_and_a_gap_in_the_line(series):
    found = series([level(1), bad(8), level(16)])
    chart = against_load(found)
    assert [label for _, label in chart.x.ticks] == ["1", "8\n✗", "16"]
    assert "✗ INVALID" in chart.x.key
    line = lines_of(found)["p50"]
    assert list(np.isfinite(line.y)) == [True, False, True]
    (mark,) = (m for m in load_charts(found)[0].lines if m.name == NO_PART and m.group == "p50")
    assert (list(mark.x), mark.role) == ([8], "hollow")
    figure = picture(chart)
    figure.draw_without_rendering()
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["1", "8\n✗", "16"]
    drawn = next(one for one in figure.axes[0].lines if one.get_label() == "p50")
    assert np.isnan(drawn.get_ydata()[1])
    trace = next(t for t in for_page(chart)["data"] if t["name"] == "p50")
    assert trace["y"][1] is None
    assert trace["connectgaps"] is False


def test_an_invalid_run_beside_others_is_left_out_of_the_mean(series):
    found = series([level(1), level(8, repeat=0), bad(8, repeat=1), level(8, repeat=2)])
    line = lines_of(found)["p50"]
    kept = [found.levels[1].runs[place].samples["ttft_ms"].values for place in (0, 2)]
    assert list(line.y[1:]) == pytest.approx([np.percentile(np.concatenate(kept), 50)])
    assert len(repeats_of(found, "p50").x) == 2


def test_no_mark_means_two_things(series):
    found = series([level(1, repeat=n) for n in range(2)] + [bad(8), level(16)])
    looks = {}
    for line in against_load(found).lines:
        looks.setdefault((line.role, line.place, line.colour), set()).add(line.name)
    assert {len(names) for names in looks.values()} == {1}
    hollow = {line.name for line in against_load(found).lines if line.role == "hollow"}
    assert hollow == {NO_PART}
    drawn = [t["marker"]["symbol"] for t in for_page(against_load(found))["data"] if "marker" in t]
    assert sum(symbol.endswith("-open") for symbol in drawn) == sum(
        line.role == "hollow" for line in against_load(found).lines
    )


def test_a_logarithmic_axis_says_so_and_has_two_ticks_at_least(series):
    found = series([level(1), level(8)])
    figure = picture(against_load(found))
    figure.draw_without_rendering()
    assert "log scale" in figure.axes[-1].get_xlabel()
    assert "log scale" in for_page(against_load(found))["layout"]["xaxis"]["title"]["text"]
    for low, high in ((15, 390), (1.5, 1502), (0.2, 90)):
        values = np.array([low, high], dtype=float)
        for many in (20, MANY):
            inside = [
                m * 10.0**e
                for e in range(-3, 5)
                for m in ((1, 2, 5) if few_decades(values, many) else (1,))
            ]
            assert sum(low <= tick <= high for tick in inside) >= 1 + (high / low > 10)


def test_runs_that_disagree_are_marks_without_a_line(series):
    faster = [dataclasses.replace(r, ttft_ms=50.0) for r in level(8, repeat=1)]
    found = series([level(1), level(8), faster, level(16)])
    assert list(np.isfinite(lines_of(found)["p50"].y)) == [True, False, True]
    (mark,) = (m for m in load_charts(found)[0].lines if m.name == NO_PART and m.group == "p50")
    assert list(mark.x) == [8, 8]


def test_few_requests_have_no_p95_and_say_why(series):
    found = series([level(c, count=40) for c in (1, 8)])
    assert "p95 needs 72" in against_load(found).note
    assert "p95" not in lines_of(found)


def test_a_level_with_too_few_requests_for_p95_says_so_though_others_have_it(series):
    found = series([level(1, count=40), level(8), level(16)])
    assert "p95 needs 72" in load_charts(found)[0].note
    assert list(lines_of(found)["p95"].x) == [8, 16]


def test_a_lone_run_that_lacks_p95_beside_repeated_levels_is_said_too(series):
    repeated_runs = [level(c, repeat=n) for c in (8, 16) for n in range(2)]
    found = series([level(1, count=40), *repeated_runs])
    assert "p95 needs 72" in load_charts(found)[0].note


def test_every_percentile_that_an_objective_may_ask_for_has_a_look():
    assert set(PLACES) == set(PERCENTILES)
    assert len(set(PLACES.values())) == len(PLACES)
    assert THROUGHPUT not in PLACES.values()


def test_a_chart_without_any_value_is_left_out(series):
    runs = [
        [whole_reply_record(i, run_id=f"w{c}", concurrency=c, tpot_ms=None) for i in range(80)]
        for c in (1, 8)
    ]
    charts = load_charts(series(runs, scenario={"stream": False}))
    assert [c.panels[0].y.words for c in charts] == ["latency (ms)", "output tokens/s"]


def test_more_levels_than_colours_make_a_picture_and_no_two_labels_touch(series):
    figure = picture(against_load(series([level(c, count=20) for c in range(1, 25)])))
    figure.draw_without_rendering()
    labels = figure.axes[-1].get_xticklabels()
    boxes = [t.get_window_extent() for t in labels if t.get_text().strip()]
    assert len(boxes) > 3
    assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))


def test_an_open_loop_is_drawn_from_the_schedule_against_the_rate_asked(series):
    def come(rate):
        run_id = f"made-r{rate:g}"
        return [
            made_record(i, run_id=run_id, request_rate=rate, send_lag_ms=rate / 5)
            for i in range(100)
        ]

    found = series([come(2.5), come(20.0)], scenario={"slo": {"ttft_ms": {"p95": 130.0}}})
    chart = load_charts(found)[0]
    assert "schedule" in chart.panels[0].y.words
    assert chart.x.unit == "requests/s"
    assert list(lines_of(found)["p50"].x) == [2.5, 20]
    assert list(lines_of(found)["p50"].y) == pytest.approx([100.5, 104])
    assert [label.split("\n")[0] for _, label in chart.x.ticks] == ["2.5", "20"]
    (rule,) = chart.panels[0].rules
    assert rule.at == 130
    assert "schedule p95" in rule.name


def speeds(streams, tpot_ms, per_s, run="p", **changes):
    """Records of a level that decodes at `tpot_ms` and ends `per_s` requests a second."""
    for i in range(100):
        fields = {"run_id": f"{run}{streams}", "tpot_ms": tpot_ms, "t_sent_s": i / per_s, **changes}
        yield made_record(i, concurrency=streams, **fields)


def test_the_frontier_is_what_no_other_level_beats(series):
    found = series([speeds(1, 10, 4), speeds(2, 12.5, 8), speeds(4, 20, 6), speeds(8, 40, 16)])
    points = pareto(found.levels, gpus=2)
    assert [p.load.value for p in points if p.on_frontier] == [1, 2, 8]
    assert [p.per_user for p in points] == pytest.approx([100, 80, 50, 25])
    both = [p.per_gpu for p in pareto(found.levels, None)]
    assert [p.per_gpu for p in points] == pytest.approx([rate / 2 for rate in both])
    on, beaten = (line for line in pareto_chart(found).lines if line.role == "points")
    assert (on.colour, beaten.colour) == ("c0", "quiet")
    assert list(on.x) == pytest.approx([100, 80, 25])
    assert list(beaten.x) == pytest.approx([50])


def test_an_invalid_level_is_no_point_and_the_chart_says_so(series):
    failed = [failed_record(100 + i, run_id="p8", concurrency=8, t_sent_s=1.0) for i in range(9)]
    found = series([speeds(1, 10, 4), speeds(2, 20, 8), [*speeds(8, 5, 50), *failed]])
    assert [p.load.value for p in pareto(found.levels, None)] == [1, 2]
    chart = pareto_chart(found)
    assert max(line.x.max() for line in chart.lines) == 100  # its 200 tokens/s are nowhere
    assert "8 streams" in chart.note


def test_the_pareto_chart_names_loads_and_says_where_gpus_were_not_counted(series):
    chart = pareto_chart(series([speeds(1, 10, 4), speeds(16, 20, 30), speeds(32, 20.1, 30.1)]))
    labels = [label for line in chart.lines for label in line.labels if label]
    assert labels == ["1 stream", "16 ? and 32 ? streams"]
    assert chart.panels[0].y.unit.endswith("server")
    assert overflowing(picture(chart)) == []


def test_the_pareto_chart_divides_by_the_servers_gpus(series):
    chart = pareto_chart(series([speeds(1, 10, 4), speeds(2, 12, 8)], scenario={"gpus": 4}))
    assert chart.panels[0].y.unit.endswith("GPU")
    assert "(of 4)" in chart.panels[0].y.words
