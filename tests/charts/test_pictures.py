"""Distributions: what stands in them, and that nothing foreign is read as mathematics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.charts.cdf_figure import cdf_figure, overlay_figure
from vllm_bench.charts.distributions import MOST_POINTS, curve
from vllm_bench.charts.pen_matplotlib import drawable
from vllm_bench.charts.pictures import run_pictures, series_pictures
from vllm_bench.charts.style import DARK, LIGHT, in_style, save

from tests.charts.drawn import (
    legend_words,
    level,
    overflowing,
    plotted_at,
    series_at,
    texts,
    write_tokens,
    written,
)
from tests.support.made_runs import failed_record, made_record, whole_reply_record


@pytest.fixture
def run(tmp_path):
    """Write a run and return what its pictures need."""
    return lambda records, **changes: plotted_at(written(tmp_path, list(records), **changes))


@pytest.fixture
def series(tmp_path):
    """Write runs and return their series, and what pictures keep of each."""
    return lambda runs: series_at([written(tmp_path, list(records)) for records in runs])


def test_a_distribution_names_scenario_model_data_and_level_and_marks_percentiles(run):
    plotted = run(level(8))
    figure = cdf_figure(plotted, "ttft_ms")
    found = texts(figure)
    p95 = plotted.summary.percentile("ttft_ms", 95)
    for part in (
        "Time to first token: made, 8 streams",
        "openai/gpt-oss-20b · dolly · 400 of 400 requests succeeded",
        "Verdict: VALID",
        "time to first token (ms)",
        "requests at or below (%)",
        "n 400",
        f"p95  {p95:.0f} ms",
    ):
        assert part in found
    assert figure.axes[0].get_xscale() == "linear"


def test_the_curve_is_the_empirical_distribution(run):
    plotted = run([made_record(i, ttft_ms=t) for i, t in enumerate([30.0, 10.0, 20.0, 20.0])])
    x, y = cdf_figure(plotted, "ttft_ms").axes[0].lines[0].get_data()
    assert list(x) == [10, 10, 20, 20, 30]
    assert list(y) == [0, 25, 50, 75, 100]


def test_a_gap_counts_for_its_tokens_in_itl_and_once_as_a_chunk_gap(tmp_path):
    path = written(tmp_path, [made_record(0, completion_tokens=9, token_events=3)])
    write_tokens(path, {0: [0.1, 0.13, 0.19]}, tokens=3)
    plotted = plotted_at(path)
    assert list(plotted.curves["itl_ms"].values) == pytest.approx([10, 20])
    assert plotted.curves["itl_ms"].n == 6
    assert list(plotted.curves["chunk_gap_ms"].values) == pytest.approx([30, 60])
    assert plotted.curves["chunk_gap_ms"].n == 2
    figure = cdf_figure(plotted, "itl_ms")
    assert figure.axes[0].get_ylabel() == "tokens at or below (%)"
    assert "n 6" in legend_words(figure)


def test_a_percentile_without_the_samples_has_no_mark_and_says_what_it_needs(run):
    figure = cdf_figure(run(level(8, count=50)), "latency_ms")
    assert "p99  n<368" in texts(figure)
    marks = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s", "^")]
    assert len(marks) == 1


def test_other_runs_of_a_level_are_thin_lines_under_this_one(series):
    _, (this, *others) = series([level(8, repeat=n) for n in range(3)])
    figure = cdf_figure(this, "ttft_ms", [r.curves["ttft_ms"] for r in others])
    *thin, thick = figure.axes[0].lines[:3]
    assert [line.get_linewidth() for line in thin] == [0.9, 0.9]
    assert thick.get_linewidth() > 2
    assert list(thin[1].get_xdata()[1:]) == list(others[1].curves["ttft_ms"].values)
    assert legend_words(figure)[:2] == ["2 other runs of this level", "this run, n 400"]


@given(
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20),
    st.integers(0, 12_000),
    st.integers(8, 4000),
)
def test_a_thinned_curve_lies_on_the_whole_one_and_keeps_both_ends(some, count, most):
    rng = np.random.default_rng(count)
    values = np.concatenate([np.array(some), rng.lognormal(2, 2, count)])
    found = curve((values, None), most)
    ranks = np.searchsorted(np.sort(values), found.values, side="right")
    assert found.n == values.size
    assert found.values.size <= most
    assert (found.values[0], found.values[-1]) == (values.min(), values.max())
    assert found.shares[-1] == pytest.approx(100)
    assert (found.shares <= 100 * ranks / values.size + 1e-9).all()
    assert (np.diff(found.values) >= 0).all()


def test_a_picture_says_how_many_points_it_left_out(run):
    many = run(made_record(i, ttft_ms=1.0 + i) for i in range(2 * MOST_POINTS))
    drawn = many.curves["ttft_ms"].values.size
    said = " ".join(texts(cdf_figure(many, "ttft_ms")).split())
    assert f"{drawn:,} of 8,000 points are drawn" in said
    assert "points are drawn" not in texts(cdf_figure(run(level(8)), "ttft_ms"))


def test_a_long_tail_keeps_its_shape_when_it_is_thinned():
    tail = np.geomspace(1e3, 1e6, 50)
    values = np.concatenate([np.linspace(1, 2, 1_000_000), tail])
    assert set(tail) <= set(curve((values, None)).values)
    assert (curve((values, None), 400).values >= 1e3).sum() == tail.size


def test_a_spread_of_more_than_a_decade_is_on_a_log_scale_and_says_so(run):
    figure = cdf_figure(run(level(8, spread=1.5)), "ttft_ms")
    assert figure.axes[0].get_xscale() == "log"
    assert "(ms, log scale)" in texts(figure)


def test_equal_values_make_a_picture_too(run, tmp_path):
    save(cdf_figure(run(made_record(i) for i in range(10)), "ttft_ms"), tmp_path / "a.png")
    zero = run(made_record(i, ttft_ms=0.0, run_id="zero") for i in range(10))
    save(cdf_figure(zero, "ttft_ms"), tmp_path / "b.png")


def test_foreign_names_are_drawn_as_they_are_and_never_as_mathematics(run, tmp_path):
    model = r"a$\frac{b}$ x^2 \u202e"
    plotted = run(level(8), scenario={"model": model, "dataset": "file:/tmp/$a_b$.jsonl"})
    figure = cdf_figure(plotted, "ttft_ms")
    save(figure, tmp_path / "a.png")  # a parsed formula would raise here
    assert r"a$\frac{b}$ x^2" in texts(figure)
    assert "$a_b$" in texts(figure)


def test_characters_that_the_font_lacks_become_question_marks():
    assert drawable("模型-7b") == "??-7b"
    assert drawable("Привет é") == "Привет é"


@pytest.mark.parametrize("name", ["W" * 80, "a long name of many words " * 4, "x-$y_z$-" * 10])
def test_a_scenario_of_a_long_name_stays_on_the_page(run, name):
    figure = cdf_figure(run(level(8, count=40, scenario=name)), "ttft_ms")
    assert overflowing(figure) == []
    assert name[:20].split()[0] in texts(figure)


def test_doubts_and_simulation_are_said_under_the_title(run):
    records = [*level(8, count=50), failed_record(50, run_id="made-cc8-0", concurrency=8)]
    found = texts(cdf_figure(run(records, server={"simulator": "yes"}), "ttft_ms"))
    assert "Verdict: INVALID (errors, window_short)" in found
    assert "simulated server" in found


def test_an_overlay_tells_levels_apart_by_more_than_colour(series):
    found, runs = series([level(c) for c in (1, 8, 32)])
    lines = overlay_figure(found, runs, "ttft_ms").axes[0].lines
    assert [line.get_label() for line in lines] == [
        "1 stream, n 400",
        "8 streams, n 400",
        "32 streams, n 400",
    ]
    for style in ("get_color", "get_marker", "get_linestyle"):
        assert len({getattr(line, style)() for line in lines}) == 3


def test_repeats_of_a_level_share_its_look_and_one_label(series):
    found, runs = series([level(8, repeat=n) for n in range(3)])
    figure = overlay_figure(found, runs, "latency_ms")
    lines = figure.axes[0].lines
    assert len(lines) == 3
    assert {line.get_color() for line in lines} == {LIGHT.series[0]}
    assert legend_words(figure) == ["8 streams, n 1,200 in 3 runs"]


def test_what_cannot_be_drawn_says_why(run, series):
    whole = run([whole_reply_record(i) for i in range(80)], scenario={"stream": False})
    failed = run([failed_record(i, run_id="f") for i in range(10)])
    ttft, latency, itl, gap = run_pictures(whole)
    reason = "stream: false, so a reply is one piece"
    assert {p.why_not for p in (ttft, itl, gap)} == {reason}
    assert {p.draw for p in (ttft, itl, gap)} == {None}
    assert latency.draw is not None
    assert {p.why_not for p in run_pictures(failed)} == {"no request succeeded"}
    *_, last = series_pictures(*series([level(1, repeat=7)]))
    assert (last.name, last.draw) == ("made_*", None)


def test_a_foreign_scenario_cannot_name_a_file_elsewhere(series):
    found, runs = series([[made_record(0, scenario="../../x", run_id=f"r{n}")] for n in range(2)])
    assert all("/" not in p.name for p in series_pictures(found, runs))


def test_a_saved_picture_is_a_png_of_a_size_to_look_at(run, tmp_path):
    path = tmp_path / "a.png"
    save(cdf_figure(run(level(8)), "ttft_ms"), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") >= 1200
    assert list(tmp_path.glob("*.tmp")) == []


@pytest.mark.parametrize(
    ("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89")]
)
def test_the_same_run_gives_the_same_bytes(run, tmp_path, kind, begins):
    plotted = run(level(8, count=80))
    for name in ("a", "b"):
        save(cdf_figure(plotted, "ttft_ms"), tmp_path / name, kind)
    data = (tmp_path / "a").read_bytes()
    assert data.startswith(begins)
    assert data == (tmp_path / "b").read_bytes()


def test_a_dark_picture_is_dark_all_over_and_its_words_are_light(run, tmp_path):
    with in_style(DARK):
        figure = cdf_figure(run(level(8)), "ttft_ms")
        save(figure, tmp_path / "a.svg", "svg")
    assert figure.get_facecolor() == pytest.approx(rgba(DARK.paper))
    assert figure.axes[0].lines[0].get_color() == DARK.series[0]
    drawn = (tmp_path / "a.svg").read_text().lower()
    assert LIGHT.paper.lower() not in drawn
    assert LIGHT.series[0].lower() not in drawn


def rgba(colour):
    return [*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0]


def luminance(colour):
    """WCAG's relative luminance."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba(colour)[:3]]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_words_can_be_read_and_bars_differ_in_grey(look):
    for ground in (look.paper, look.window, look.aside):
        assert contrast(look.ink, ground) > 7
        assert contrast(look.quiet, ground) > 4.5
        assert contrast(look.error, ground) > 4.5
    assert all(contrast(c, look.paper) > 2 for c in look.series)
    assert contrast(look.window, look.aside) > 1.15
    assert contrast(look.wait, look.decode) > 1.8
    assert contrast(look.decode, look.pause) > 1.8


def late(rate, repeat=0):
    """Records of an open loop whose requests waited 40 ms in the client."""
    run_id = f"made-r{rate:g}-{repeat}"
    return [made_record(i, run_id=run_id, request_rate=rate, send_lag_ms=40.0) for i in range(80)]


def test_an_open_loops_times_count_from_the_schedule_and_the_send_is_shown_beside(run):
    plotted = run(late(20.0))
    figure = cdf_figure(plotted, "ttft_ms")
    found = texts(figure)
    assert "Time to first token from schedule: made, 20 requests/s" in found
    assert "time to first token from schedule (ms)" in found
    due, sent = figure.axes[0].lines[:2]
    assert (set(sent.get_xdata()), set(due.get_xdata())) == ({100.0}, {140.0})
    assert "p50  140 ms" in found
    assert "from the send" in legend_words(figure)
    assert next(iter(run_pictures(plotted))).name == "made-r20-0_ttft_cdf"


def test_levels_of_an_open_loop_are_rates(series):
    found, runs = series([late(2.5), late(20.0)])
    figure = overlay_figure(found, runs, "latency_ms")
    assert "Latency from schedule: made, by request rate" in texts(figure)
    assert legend_words(figure)[0].startswith("2.5 requests/s, n 80")
    assert set(figure.axes[0].lines[0].get_xdata()) == {1040.0}
