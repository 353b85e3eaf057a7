"""Against load: lines through levels, intervals, objectives, the knee; and the Pareto picture."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from vllm_bench.charts.against_load import load_line
from vllm_bench.charts.load_figure import load_figure
from vllm_bench.charts.pareto_figure import pareto_figure
from vllm_bench.charts.pen_matplotlib import level_axis
from vllm_bench.charts.pictures import series_pictures
from vllm_bench.charts.style import save
from vllm_bench.figures.statistics import repeated
from vllm_bench.summary.pareto import pareto

from tests.charts.drawn import legend_words, level, overflowing, series_at, texts, written
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


def labels_of(axes):
    return [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]


def test_the_line_runs_through_geometric_means_and_each_run_is_a_hollow_dot(series):
    found = series([level(c, repeat=n) for c in (1, 8) for n in range(3)])
    figure = load_figure(found)
    ttft, tpot, latency, tokens = figure.axes
    means = [math.exp(np.mean([math.log(ttft_p50(r)) for r in lv.runs])) for lv in found.levels]
    assert list(ttft.lines[0].get_xdata()) == [1, 8]
    assert list(ttft.lines[0].get_ydata()) == pytest.approx(means)
    dots = next(line for line in ttft.lines if len(line.get_xdata()) == 6)
    assert sorted(dots.get_ydata()) == pytest.approx(sorted(ttft_p50(r) for r in found.runs))
    assert latency.get_ylabel().startswith("latency (ms)")
    assert tpot.get_ylabel() == "TPOT (ms)"
    assert tokens.get_ylabel() == "output tokens/s"
    assert tokens.get_ylim()[0] == 0
    assert "each run (line: their geometric mean)" in legend_words(figure)


def test_three_runs_have_an_interval_over_repeats_and_one_run_an_optimistic_one(series):
    thrice = series([level(c, repeat=n) for c in (1, 8) for n in range(3)])
    point = load_line(thrice.levels, ttft_p50).points[0]
    expected = repeated([ttft_p50(r) for r in thrice.levels[0].runs])
    assert point.over_repeats
    assert point.interval == expected.interval
    assert "95 % interval over runs (t on logs)" in legend_words(load_figure(thrice))
    once = series([level(c, repeat=9) for c in (1, 8)])
    assert "95 % interval in a run: optimistic" in legend_words(load_figure(once))
    bars = [c for c in load_figure(once).axes[0].containers if c.has_yerr]
    (line,) = bars[0].lines[2]
    inside = once.runs[0].distributions["ttft_ms"].interval(50)
    assert sorted(line.get_segments()[0][:, 1]) == pytest.approx([inside.low, inside.high])


def test_two_runs_have_no_interval(series):
    found = series([level(c, repeat=n) for c in (1, 8) for n in range(2)])
    figure = load_figure(found)
    assert not any("interval" in words for words in legend_words(figure))


def test_a_level_of_which_a_run_lacks_the_figure_has_no_mean_and_shows_the_others(series):
    found = series([level(1, repeat=n) for n in range(2)] + [level(8), level(8, 40, repeat=1)])
    line = load_line(found.levels, lambda run: run.percentile("ttft_ms", 95))
    assert [point.load for point in line.points] == [1]
    assert [at for at, _ in line.runs] == [1, 1, 8]
    figure = load_figure(found)
    dots = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [list(line.get_xdata()) for line in dots] == [[1, 1, 8]]
    assert "p95 needs 72 successes in a run" in texts(figure)


def test_objectives_are_lines_with_their_words_and_bring_their_percentile(series):
    slo = {"ttft_ms": {"p99": 700.0}, "tpot_ms": {"p95": 60.0}, "success_rate": 0.99}
    found = series([level(c) for c in (1, 8)], scenario={"slo": slo})
    figure = load_figure(found)
    ttft, tpot, latency, _ = figure.axes
    assert [700.0, 700.0] in [list(line.get_ydata()) for line in ttft.lines]
    assert [60.0, 60.0] in [list(line.get_ydata()) for line in tpot.lines]
    assert "objective: TTFT p99 ≤ 700 ms" in texts(figure)
    assert "success" not in texts(figure).replace("succeeded", "")
    assert {"p50", "p95", "p99"} <= set(labels_of(ttft))
    assert "p99" not in labels_of(latency)
    assert ttft.get_ylim()[0] < 700 < ttft.get_ylim()[1]


def test_the_knee_is_ringed_and_a_line_goes_through_all_panels(series):
    def served(streams):  # 16 at once, however many wait
        for i in range(320):
            turn_s = max(streams, 16) / 16
            sent_s = (i // streams) * turn_s if streams >= 16 else i / streams
            fields = {"run_id": f"k{streams}", "latency_ms": 1000 * turn_s}
            yield made_record(i, concurrency=streams, t_sent_s=sent_s, **fields)

    found = series([served(streams) for streams in (4, 8, 16, 32, 64)])
    figure = load_figure(found)
    assert overflowing(figure) == []
    assert any(words.startswith("knee: 16 streams (32 streams:") for words in legend_words(figure))
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [16, 16] for line in axes.lines)


def test_a_level_that_is_not_valid_says_so_under_its_tick(series):
    bad = [failed_record(i, run_id="bad", concurrency=16) for i in range(100)]
    figure = load_figure(series([level(1), level(8), bad]))
    figure.draw_without_rendering()
    labels = [t.get_text() for t in figure.axes[-1].get_xticklabels()]
    assert labels == ["1", "8", "16\nINVALID"]
    assert figure.axes[-1].get_xlabel() == "concurrent streams"


def test_few_requests_have_no_p95_and_say_why(series):
    figure = load_figure(series([level(c, count=40) for c in (1, 8)]))
    assert "p95 needs 72 successes in a run" in texts(figure)
    assert "p95" not in labels_of(figure.axes[0])


def test_a_level_with_too_few_requests_for_p95_says_so_though_others_have_it(series):
    figure = load_figure(series([level(1, count=40), level(8), level(16)]))
    assert "p95 needs 72 successes in a run" in texts(figure)
    p95 = next(line for line in figure.axes[0].lines if line.get_label() == "p95")
    assert list(p95.get_xdata()) == [8, 16]


def test_a_panel_without_any_value_is_left_out(series):
    runs = [
        [whole_reply_record(i, run_id=f"w{c}", concurrency=c, tpot_ms=None) for i in range(80)]
        for c in (1, 8)
    ]
    figure = load_figure(series(runs, scenario={"stream": False}))
    assert [a.get_ylabel() for a in figure.axes] == ["latency (ms)", "output tokens/s"]


def test_more_levels_than_colours_make_a_picture_and_no_two_labels_touch(series, tmp_path):
    found = series([level(c, count=20) for c in range(1, 25)])
    figure = load_figure(found)
    save(figure, tmp_path / "b.png")
    boxes = [
        t.get_window_extent() for t in figure.axes[-1].get_xticklabels() if t.get_text().strip()
    ]
    assert len(boxes) > 3
    assert figure.axes[-1].get_xlabel().startswith("concurrent streams   ? SUSPECT")
    assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))


def test_levels_of_a_rate_keep_their_fractions():
    axes = Figure().subplots()
    level_axis(axes, [(0.5, "0.5"), (2.5, "2.5"), (40.0, "40")])
    axes.set_xlim(0.4, 50)
    axes.figure.draw_without_rendering()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "2.5", "40"]


def test_other_settings_are_another_picture(tmp_path):
    runs = []
    for n, cache in enumerate(("run", "cold")):
        for c in (1, 8):
            records = list(level(c, count=80, repeat=n))
            runs.append(written(tmp_path, records, scenario={"cache": cache}))
    from vllm_bench.charts.pictures import all_series

    from tests.charts.drawn import plotted_at

    plotted = [plotted_at(path) for path in runs]
    found = all_series(plotted)
    names = [
        picture.name
        for number, one in enumerate(found, start=1)
        for picture in series_pictures(one, plotted, number)
    ]
    assert len(names) == len(set(names))
    assert {"made_load", "made_2_load", "made_pareto", "made_2_pareto"} <= set(names)


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


def test_an_invalid_level_is_hollow_and_beats_nobody(series):
    failed = [failed_record(100 + i, run_id="p8", concurrency=8, t_sent_s=1.0) for i in range(9)]
    found = series([speeds(1, 10, 4), speeds(2, 20, 8), [*speeds(8, 5, 50), *failed]])
    points = pareto(found.levels, None)
    assert [p.on_frontier for p in points] == [p.verdict != "INVALID" for p in points]
    figure = pareto_figure(found)
    hollow = next(line for line in figure.axes[0].lines if line.get_label() == "INVALID")
    assert list(hollow.get_xdata()) == [200]
    assert hollow.get_markerfacecolor() != hollow.get_color()


def test_the_pareto_picture_names_loads_and_says_where_gpus_were_not_counted(series):
    figure = pareto_figure(series([speeds(1, 10, 4), speeds(16, 20, 30), speeds(32, 20.1, 30.1)]))
    found = texts(figure)
    assert "1 stream\n" in found + "\n"
    assert "16 and 32 streams" in found
    assert "(its GPUs were not counted)" in found
    assert overflowing(figure) == []


def test_the_pareto_picture_divides_by_the_servers_gpus(series):
    four = {"gpus": 4}
    figure = pareto_figure(series([speeds(1, 10, 4), speeds(2, 12, 8)], scenario=four))
    assert figure.axes[0].get_ylabel() == "output tokens/s by GPU (of 4)"


def test_an_open_loop_is_drawn_from_the_schedule_against_the_rate_asked(series):
    def come(rate):
        run_id = f"made-r{rate:g}"
        return [
            made_record(i, run_id=run_id, request_rate=rate, send_lag_ms=rate) for i in range(100)
        ]

    slo = {"ttft_ms": {"p95": 130.0}}
    figure = load_figure(series([come(2.5), come(20.0)], scenario={"slo": slo}))
    ttft = figure.axes[0]
    assert ttft.get_ylabel() == "TTFT from\nschedule (ms)"
    assert list(ttft.lines[0].get_xdata()) == [2.5, 20]
    assert list(ttft.lines[0].get_ydata()) == pytest.approx([102.5, 120])
    assert figure.axes[-1].get_xlabel() == "requests asked for a second"
    assert "objective: TTFT from schedule p95 ≤ 130 ms" in texts(figure)
    assert [130.0, 130.0] in [list(line.get_ydata()) for line in ttft.lines]
