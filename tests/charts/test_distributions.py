"""Distributions: of one run with its percentiles, and of levels over each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.charts.distributions import curve, distribution, overlay
from vllm_bench.charts.over_time import MOST_OF_A_CURVE
from vllm_bench.stats.distribution import Sample

from tests.charts.drawn import (
    drawn_at,
    legend_words,
    level,
    picture,
    series_at,
    write_tokens,
    written,
)
from tests.support.made_runs import failed_record, made_record
from tests.support.reading import numbers


@pytest.fixture
def run(tmp_path):
    """Write a run and return what charts keep of it."""
    return lambda records, **changes: drawn_at(written(tmp_path, list(records), **changes))


@pytest.fixture
def overlaid(tmp_path):
    """Write runs and return a metric's distribution over their levels."""

    def made(runs, metric="ttft_ms"):
        same = {"num_requests": 400}
        series, drawn = series_at([written(tmp_path, list(r), scenario=same) for r in runs])
        return overlay(series, {id(run.summary): run.curves for run in drawn}, metric)

    return made


def of_one(drawn, metric, repeats=()):
    return distribution(drawn.summary, drawn.curves, metric, repeats)


def legends(chart):
    return [line.label for line in chart.lines if line.label is not None]


def test_the_curve_is_the_empirical_distribution(run):
    drawn = run([made_record(i, ttft_ms=t) for i, t in enumerate([30.0, 10.0, 20.0, 20.0])])
    line = of_one(drawn, "ttft_ms").lines[0]
    assert list(line.x) == [10, 10, 20, 20, 30]
    assert list(line.y) == [0, 25, 50, 75, 100]


def test_percentiles_are_marked_where_there_are_samples_enough(run):
    drawn = run(level(8, count=100))
    marks = [line for line in of_one(drawn, "latency_ms").lines if line.role == "drops"]
    known = [(float(x), float(y)) for line in marks for x, y in zip(line.x, line.y, strict=True)]
    assert known == [(drawn.summary.percentile("latency_ms", q), q) for q in (50, 95)]
    assert marks[2].name == "p99  needs 368"


def test_a_gap_counts_for_its_tokens_in_itl_and_once_as_a_chunk_gap(tmp_path):
    path = written(tmp_path, [made_record(0, completion_tokens=9, token_events=3, token_reads=3)])
    write_tokens(path, {0: [0.1, 0.13, 0.19]}, tokens=3)
    drawn = drawn_at(path)
    assert list(drawn.curves["itl_ms"].values) == pytest.approx([10, 20])
    assert drawn.curves["itl_ms"].n == 6
    assert list(drawn.curves["chunk_gap_ms"].values) == pytest.approx([30, 60])
    assert drawn.curves["chunk_gap_ms"].n == 2
    chart = of_one(drawn, "itl_ms")
    assert chart.panels[0].y.unit.endswith("tokens")
    assert legends(chart)[0] == "n 6"


def test_other_runs_of_a_level_are_thin_lines_under_this_one(run):
    this, *others = (run(level(8, repeat=n)) for n in range(3))
    chart = of_one(this, "ttft_ms", [other.curves["ttft_ms"] for other in others])
    assert [line.role for line in chart.lines[:3]] == ["thin", "thin", "steps"]
    assert list(chart.lines[1].x[1:]) == list(others[1].curves["ttft_ms"].values)
    assert [numbers(legend) for legend in legends(chart)[:2]] == [[2], [384]]
    first, _, thick = picture(chart).axes[0].lines[:3]
    assert first.get_linewidth() < 1 < thick.get_linewidth()


@given(
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20),
    st.integers(0, 12_000),
    st.integers(8, 4000),
)
def test_a_thinned_curve_lies_on_the_whole_one_and_keeps_both_ends(some, count, most):
    rng = np.random.default_rng(count)
    values = np.concatenate([np.array(some), rng.lognormal(2, 2, count)])
    found = curve(Sample(values), most)
    ranks = np.searchsorted(np.sort(values), found.values, side="right")
    assert found.n == values.size
    assert found.values.size <= most
    assert (found.values[0], found.values[-1]) == (values.min(), values.max())
    assert found.shares[-1] == pytest.approx(100)
    assert (found.shares <= 100 * ranks / values.size + 1e-9).all()
    assert (np.diff(found.values) >= 0).all()


def test_a_chart_says_how_many_points_it_left_out(run):
    many = run(made_record(i, ttft_ms=1.0 + i) for i in range(2 * MOST_OF_A_CURVE))
    kept = many.curves["ttft_ms"].values.size
    assert f"{kept:,} of 7,993" in of_one(many, "ttft_ms").note
    assert of_one(run(level(8)), "ttft_ms").note == ""


def test_a_long_tail_keeps_its_shape_when_it_is_thinned():
    tail = np.geomspace(1e3, 1e6, 50)
    values = np.concatenate([np.linspace(1, 2, 1_000_000), tail])
    assert set(tail) <= set(curve(Sample(values)).values)
    assert (curve(Sample(values), 400).values >= 1e3).sum() == tail.size


def test_a_spread_of_more_than_a_decade_is_on_a_log_scale_and_says_so(run):
    chart = of_one(run(level(8, spread=1.5)), "ttft_ms")
    assert chart.x.log
    axes = picture(chart).axes[0]
    assert axes.get_xscale() == "log"
    assert "log" in axes.get_xlabel()


@pytest.mark.parametrize("ttft_ms", [10.0, 0.0])
def test_equal_values_make_a_picture_too(run, ttft_ms):
    drawn = run(made_record(i, ttft_ms=ttft_ms) for i in range(10))
    picture(of_one(drawn, "ttft_ms")).draw_without_rendering()


def test_levels_are_told_apart_by_more_than_colour(overlaid):
    chart = overlaid([level(c) for c in (1, 8, 32)])
    expected = ["1 stream, n 399", "8 streams, n 384", "32 streams, n 245 SUSPECT"]
    assert legends(chart) == expected
    assert legend_words(picture(chart)) == expected
    lines = [line for line in picture(chart).axes[0].lines if line.get_label() in expected]
    for style in ("get_color", "get_linestyle"):
        assert len({getattr(line, style)() for line in lines}) == 3


def test_repeats_of_a_level_share_its_look_and_one_label(overlaid):
    chart = overlaid([level(8, repeat=n) for n in range(3)], "latency_ms")
    assert len({(line.place, line.colour, line.group) for line in chart.lines}) == 1
    assert [numbers(legend) for legend in legends(chart)] == [[8, 1153, 3]]
    assert {line.name for line in chart.lines} == {f"8 streams, run {n}" for n in (1, 2, 3)}


def test_an_invalid_run_is_drawn_only_where_its_level_has_no_other(overlaid):
    def bad(repeat):
        failed = {"run_id": f"made-cc8-{repeat}", "concurrency": 8}
        return [*level(8, repeat=repeat), *(failed_record(i, **failed) for i in range(400, 490))]

    among_others = overlaid([level(8), bad(1), level(1)])
    assert {line.name for line in among_others.lines} == {"1 stream", "8 streams, run 1"}
    alone = overlaid([bad(2), level(2)])
    assert {line.name for line in alone.lines} == {"2 streams", "8 streams INVALID"}


def test_levels_have_no_marks_which_stand_for_percentiles_elsewhere(overlaid):
    chart = overlaid([level(c) for c in (1, 8)])
    assert {line.role for line in chart.lines} == {"steps"}
    assert 95 in [place for place, _ in chart.panels[0].y.ticks]


def test_a_metric_that_no_run_has_makes_no_chart(overlaid):
    assert overlaid([[failed_record(i) for i in range(10)]]) is None


def late(rate, repeat=0):
    """Records of an open loop whose requests waited 40 ms in the client."""
    run_id = f"made-r{rate:g}-{repeat}"
    return [made_record(i, run_id=run_id, request_rate=rate, send_lag_ms=40.0) for i in range(80)]


def test_an_open_loops_times_count_from_the_schedule_and_the_send_is_shown_beside(run):
    chart = of_one(run(late(20.0)), "ttft_ms")
    assert "schedule" in chart.x.words
    due, sent, p50, *_ = chart.lines
    assert (set(sent.x), set(due.x), list(p50.x)) == ({100.0}, {140.0}, [140])
    assert "send" in sent.label


def test_levels_of_an_open_loop_are_rates(overlaid):
    chart = overlaid([late(2.5), late(20.0)], "latency_ms")
    assert legends(chart)[0].startswith("2.5 requests/s, n 76")
    assert set(chart.lines[0].x) == {1040.0}
