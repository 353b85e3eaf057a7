"""Which of two is better: marks by word, margins, intervals and arrows, words; both load curves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from vllm_bench.charts.chart import DARK, Heading
from vllm_bench.charts.effects import (
    FURTHEST,
    LOOKS,
    effects_apart,
    effects_chart,
    load_overlays,
    overlays_apart,
)
from vllm_bench.charts.pen_matplotlib import draw
from vllm_bench.charts.pen_plotly import for_page
from vllm_bench.charts.picture.style import in_style
from vllm_bench.charts.pictures import comparison_pictures
from vllm_bench.compare.compare import compare
from vllm_bench.compare.comparison import WORDS, Comparison, Effect, LevelRows, Row
from vllm_bench.compare.measures import MEASURES
from vllm_bench.compare.pairs import Side
from vllm_bench.scenario.load import Load
from vllm_bench.stats.batches import Interval

from tests.charts.drawn import legend_words, level, overflowing, picture, series_at, texts, written

MEASURE = {measure.name: measure for measure in MEASURES}
RATE, TTFT, TPOT = (MEASURE[n] for n in ("output_tokens_per_s", "ttft_p50_ms", "tpot_p50_ms"))


def row(measure, ratio, ends=None, word=None, more=None, limit=None):
    interval = None if ends is None else Interval(*ends)
    effect = None if ratio is None else Effect(ratio, interval, 0.02)
    why = None if word else "1 pair, and a word needs 4"
    return Row(
        measure, 100.0, 100.0 * (ratio or 1), effect, word, why, more_pairs=more, limit=limit
    )


def rows_at(value, *rows, scenario="made", pairs=6):
    return LevelRows(scenario, Load("streams", value), (None,) * pairs, (), rows)


def of(*levels, a="seqs16", b="seqs64"):
    return Comparison(a, b, (), levels, (), ())


FASTER = row(RATE, 1.059, (1.051, 1.067), "faster")
SLOWER = row(TTFT, 1.12, (1.08, 1.16), "slower")
SAME = row(TPOT, 1.001, (0.995, 1.007), "equivalent")
UNSURE = row(TPOT, 0.97, (0.93, 1.01), "cannot tell", 11)
NIGHTLY = row(TTFT, 1.01, None, "not slower", limit=104.0)
UNTOLD = row(TPOT, 0.97)


def marks(chart, panel=0):
    """The marks of a panel, by what the legend calls them."""
    return {line.name: line for line in chart.panels[panel].lines if line.flat}


def line_of(chart, name, panel=0):
    return next(line for line in chart.panels[panel].lines if line.name == name)


def test_each_measure_is_a_row_with_its_change_its_interval_and_its_words():
    chart = effects_chart(of(rows_at(8, FASTER, SLOWER)))
    panel = chart.panels[0]
    assert [name.split()[-1] for _, name in panel.y.ticks] == ["↑", "↓"]  # which way is better
    assert [name.rpartition(" ")[0] for _, name in panel.y.ticks] == ["output tokens/s", "TTFT p50"]
    assert [(at, words.split("\n")) for at, words in panel.beside] == [
        (0, ["+5.9 %", "faster"]),
        (1, ["+12.0 %", "slower"]),
    ]
    faster, slower = marks(chart).values()
    assert (list(faster.x), list(faster.y)) == ([1.059], [0])
    assert (faster.low[0], faster.high[0]) == (1.051, 1.067)
    assert (slower.low[0], slower.high[0]) == (1.08, 1.16)
    first, last = panel.y.span
    assert first > last  # the first row on top
    assert "8 streams" in panel.y.words
    assert "6 pairs" in panel.y.words


def test_each_words_mark_differs_in_shape_and_in_colour():
    assert set(LOOKS) == {*WORDS, None}
    assert len({place for _, _, place, _ in LOOKS.values()}) == len(LOOKS)
    told = {word: colour for word, (_, colour, _, _) in LOOKS.items() if word}
    assert len(set(told.values())) == len(WORDS)
    chart = effects_chart(of(rows_at(8, FASTER, SLOWER, SAME, UNSURE, UNTOLD, NIGHTLY)))
    drawn = {trace["name"]: trace for trace in for_page(chart)["data"]}
    symbols = {drawn[name]["marker"]["symbol"] for name in marks(chart)}
    assert len(symbols) == len(LOOKS)


def test_what_has_no_word_is_hollow_and_says_why():
    chart = effects_chart(of(rows_at(8, FASTER, UNTOLD, pairs=1)))
    (hollow,) = (line for line in marks(chart).values() if line.role == "hollow")
    assert np.isnan(hollow.low).all()
    assert np.isnan(hollow.high).all()
    assert "a word needs 4" in hollow.words[0]
    assert chart.panels[0].beside[1] == (1, "-3.0 %")
    assert "1 pair" in chart.panels[0].y.words
    picture(chart)
    for_page(chart)


def test_a_measure_without_an_effect_has_no_row_and_no_level_has_no_chart():
    missing = row(TTFT, None)
    chart = effects_chart(of(rows_at(8, missing, FASTER), rows_at(16, missing)))
    assert len(chart.panels) == 1
    assert len(chart.panels[0].y.ticks) == 1
    assert effects_chart(of(rows_at(8, missing))) is None
    assert effects_chart(of()) is None
    assert effects_apart(of(rows_at(8, missing))) == []


def test_the_margin_is_a_band_of_each_measure():
    chart = effects_chart(of(rows_at(8, FASTER, SLOWER)))
    band = line_of(chart, "margin")
    assert band.role == "bars"
    assert list(zip(band.x, band.until, strict=True)) == [
        (1 - RATE.margin, 1 + RATE.margin),
        (1 - TTFT.margin, 1 + TTFT.margin),
    ]
    low, high = chart.x.span
    assert low < band.x.min()
    assert band.until.max() < high


def test_against_stored_nights_the_band_goes_as_far_as_the_next_night_may():
    slow = row(RATE, 0.95, None, "slower", limit=97.0)
    nights = dataclasses.replace(rows_at(8, NIGHTLY, slow, UNTOLD, pairs=0), nights=12)
    chart = effects_chart(of(nights))
    band = line_of(chart, "as nights differ")
    ends = list(zip(band.x, band.until, strict=True))
    assert ends == [pytest.approx(one) for one in ((1, 1.04), (0.97, 1), (1, 1))]
    assert "12 nights" in chart.panels[0].y.words
    assert load_overlays(of(nights)) == []


def test_sides_without_any_difference_have_an_axis():
    low, high = effects_chart(of(dataclasses.replace(rows_at(8, row(RATE, 1.0)), nights=3))).x.span
    assert low < 1 < high


def test_no_change_is_a_line_over_all_rows_and_a_tick_in_percent():
    chart = effects_chart(of(rows_at(8, FASTER, SLOWER)))
    line = line_of(chart, "no change")
    assert list(line.x) == [1, 1]
    assert sorted(line.y) == sorted(chart.panels[0].y.span)
    ticks = dict(chart.x.ticks)
    assert ticks[1.0] == "0 %"
    assert all(label == f"{100 * at - 100:+.0f} %" for at, label in ticks.items() if at != 1)
    low, high = chart.x.span
    assert all(low < at < high for at in ticks)


@pytest.mark.parametrize("step", [0.001, 0.03, 0.15, 0.6])
def test_ticks_lie_on_both_sides_however_wide_the_axis_is(step):
    found = row(RATE, 1 + step, (1 + step / 2, 1 + 2 * step), "faster")
    ticks = [at for at, _ in effects_chart(of(rows_at(8, found))).x.ticks]
    assert min(ticks) < 1 < max(ticks)
    assert len(ticks) <= 7


def test_what_lies_beyond_the_edge_is_an_arrow_and_its_figure_stands_beside():
    far = row(RATE, 3.0, (2.5, 3.6), "faster")
    wide = row(TTFT, 0.9, (0.3, 2.7), "cannot tell", 40)
    below = row(TPOT, 0.1, None)
    chart = effects_chart(of(rows_at(8, far, wide, below)))
    low, high = chart.x.span
    assert high < 1.1 * FURTHEST
    assert low == pytest.approx(1 / high)
    faster, unsure, untold = marks(chart).values()
    assert 1 < faster.x[0] < high
    assert (faster.low[0], faster.high[0]) == (2.5, math.inf)
    assert (unsure.low[0], unsure.high[0]) == (-math.inf, math.inf)
    assert low < untold.x[0] < 1
    assert untold.low[0] == -math.inf
    assert [words.split("\n")[0] for _, words in chart.panels[0].beside] == [
        "+200 %",
        "-10.0 %",
        "-90.0 %",
    ]
    figure = picture(chart)
    arrows = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 4
    heads = [
        (trace["x"][1], trace["marker"]["symbol"][1])
        for trace in for_page(chart)["data"]
        if trace.get("hoverinfo") == "skip" and trace["type"] == "scatter"
    ]
    assert sorted(symbol for _, symbol in heads) == ["arrow-left"] * 2 + ["arrow-right"] * 2
    assert {round(at, 2) for at, _ in heads} == {round(low, 2), round(high, 2)}


@pytest.mark.parametrize("ratio", [1.02, 1.2, 1.49, 1.53, 0.7, 0.98])
def test_a_mark_within_the_edges_stands_where_it_is(ratio):
    chart = effects_chart(of(rows_at(8, row(RATE, ratio))))
    low, high = chart.x.span
    assert low < ratio < high
    (mark,) = marks(chart).values()
    assert list(mark.x) == [ratio]
    assert np.isnan(mark.low).all()


def test_a_lower_end_beyond_the_edge_draws_no_bar_past_its_mark():
    far = row(RATE, 3.0, (2.5, 3.6), "faster")
    chart = effects_chart(of(rows_at(8, far)))
    (trace,) = (t for t in for_page(chart)["data"] if "error_x" in t)
    assert trace["error_x"]["array"] == [0.0]
    assert trace["error_x"]["arrayminus"] == [0.0]


def test_hovering_tells_all_that_is_known():
    (told,) = marks(effects_chart(of(rows_at(8, UNSURE)))).values()
    assert "100 to 97.0" in told.words[0]
    for part in ("8 streams", "-3.0 % (-7.0 to +1.0)", "2.00 %", "cannot tell", "11 more pairs"):
        assert part in told.words[0]


def test_the_page_draws_each_level_on_its_own_scale_beside_its_words():
    near, far = row(RATE, 1.01, (1.0, 1.02), "equivalent"), row(RATE, 2.0, (1.9, 2.1), "faster")
    found = of(rows_at(8, near), rows_at(64, far))
    one, other = effects_apart(found)
    assert one.x.span[1] < other.x.span[1]
    assert ("8 streams" in one.title, "64 streams" in other.title) == (True, True)
    drawn = for_page(one)
    assert [a["text"] for a in drawn["layout"]["annotations"]] == ["+1.0 %<br>equivalent"]
    low, high = drawn["layout"]["xaxis"]["range"]  # of a logarithmic axis: powers of ten
    assert 10**low == pytest.approx(one.x.span[0], rel=0.01)
    assert 10**high == pytest.approx(one.x.span[1], rel=0.01)


@pytest.mark.parametrize("name", ["x" * 60, "a $b$ {c} %{x}", "<b>bold</b>"])
def test_words_stay_on_the_picture_and_untrusted_names_are_drawn_as_they_are(name):
    levels = [rows_at(2**n, FASTER, SLOWER, SAME, UNSURE, scenario=name) for n in (0, 6)]
    other = rows_at(8, FASTER, scenario="other")
    found = of(*levels, other, a=name, b="b")
    with in_style(DARK):
        figure = picture(effects_chart(found))
        assert overflowing(figure) == []
    assert "+5.9 %  faster" in texts(figure)
    assert len(legend_words(figure)) == len(set(legend_words(figure)))
    drawn = for_page(effects_chart(found))
    axis = drawn["layout"]["xaxis"]["title"]["text"]
    assert not set(axis.replace("<br>", "")) & set("<>{}$")


# ---- both load curves ----


@pytest.fixture
def compared(tmp_path):
    """Compare runs of two labels at some levels, B with `factor` times the latency."""

    def made(levels, factor=1.3, repeats=4):
        sides = []
        for name, times in (("old", 1.0), ("new", factor)):
            folder = tmp_path / name
            folder.mkdir()
            paths = []
            for repeat in range(repeats):
                for streams in levels:
                    records = [slowed(r, times) for r in level(streams, count=200, repeat=repeat)]
                    paths.append(written(folder, records, scenario={"label": name}))
            sides.append(Side(name, series_at(paths)[0].runs))
        return compare(*sides)

    return made


def slowed(record, times):
    return dataclasses.replace(
        record, latency_ms=record.latency_ms * times, tpot_ms=record.tpot_ms * times
    )


def test_an_overlay_has_both_sides_lines_each_in_its_colour_dash_and_mark(compared):
    ((scenario, chart),) = load_overlays(compared([1, 8]))
    assert scenario == "made"
    assert [label for _, label in chart.x.ticks] == ["1", "8"]
    for panel in chart.panels[:-1]:
        lines = [line for line in panel.lines if line.role == "marked"]
        assert [line.name for line in lines] == ["old, p50", "old, p95", "new, p50", "new, p95"]
        assert [line.colour for line in lines] == ["c0", "c0", "c1", "c1"]
        assert len({line.place for line in lines}) == 4
    tpot = {line.name: line for line in chart.panels[1].lines if line.role == "marked"}
    assert tpot["new, p50"].y == pytest.approx(1.3 * tpot["old, p50"].y)
    assert [line.name for line in chart.panels[-1].lines if line.role == "marked"] == ["old", "new"]
    assert overflowing(picture(chart)) == []


def test_one_level_has_no_curve(compared):
    assert load_overlays(compared([8])) == []


def test_the_page_has_a_chart_a_figure(compared):
    found = compared([1, 8])
    ((_, chart),) = load_overlays(found)
    apart = overlays_apart(found)
    assert [len(one.panels) for one in apart] == [1] * len(chart.panels)
    assert len({one.title for one in apart}) == len(apart)


def test_a_long_answer_stays_on_the_picture_and_is_cut_where_it_must():
    long = Heading("B against A", "a model " * 20, "It depends: B against A is faster " * 20)
    figure = draw(effects_chart(of(rows_at(8, FASTER, row(RATE, 1.1)))), long)
    assert overflowing(figure) == []
    assert "…" in texts(figure)


def test_a_comparison_has_its_pictures_with_what_was_measured_and_the_answer(compared):
    effects, load = comparison_pictures(compared([1, 8]), "out")
    assert (effects.name, load.name) == ("out", "out_load")
    assert "new" in effects.heading.title
    assert "openai/gpt-oss-20b" in effects.heading.setup
    assert "slower" in effects.heading.verdict
    (alone,) = comparison_pictures(of(), "out")
    assert alone.chart is None
    assert alone.why_not
