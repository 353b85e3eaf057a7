"""Pictures: what stands in them, and that nothing foreign is read as mathematics."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.figures import cdf_figure, overlay_figure, plotted_run
from analysis.load_figure import load_figure
from analysis.pictures import run_pictures, scenario_pictures
from analysis.runs import load_run
from analysis.style import COLOURS, drawable, save
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.made_runs import failed_record, made_info, made_record, whole_reply_record, write_run


@pytest.fixture
def run(tmp_path):
    """Write a run and return what its pictures need."""

    def made(records, **changes):
        info = made_info(records, **changes)
        return plotted_run(load_run(write_run(tmp_path, records, info)))

    return made


def level(concurrency, count=400, spread=0.3, repeat=0):
    """Records of one level: TTFT grows with concurrency."""
    rng = np.random.default_rng(concurrency + 1000 * repeat)
    for i in range(count):
        ttft_ms = float(50 * concurrency * rng.lognormal(0, spread))
        yield made_record(
            i,
            run_id=f"made-cc{concurrency}-{repeat}",
            concurrency=concurrency,
            ttft_ms=ttft_ms,
            latency_ms=ttft_ms + 190,
        )


def texts(figure: Figure) -> str:
    """Return every text of a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(Text))


def test_a_distribution_names_scenario_model_data_and_level_and_marks_percentiles(run):
    plotted = run(list(level(8)))
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


def test_a_percentile_without_the_samples_has_no_mark_and_says_what_it_needs(run):
    figure = cdf_figure(run(list(level(8, count=50))), "latency_ms")
    assert "p99  n<368" in texts(figure)
    marks = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s", "^")]
    assert len(marks) == 1


@pytest.mark.parametrize("count", [4001, 20_000])
def test_many_points_are_thinned_with_both_ends_kept(run, count):
    plotted = run([made_record(i, ttft_ms=1.0 + i) for i in range(count)])
    x, y = cdf_figure(plotted, "ttft_ms").axes[0].lines[0].get_data()
    assert len(x) <= 4001
    assert (x[0], x[-1], y[-1]) == (1, count, 100)


def test_a_spread_of_more_than_a_decade_is_on_a_log_scale_and_says_so(run):
    figure = cdf_figure(run(list(level(8, spread=1.5))), "ttft_ms")
    assert figure.axes[0].get_xscale() == "log"
    assert "(ms, log scale)" in texts(figure)


def test_equal_values_make_a_picture_too(run, tmp_path):
    save(cdf_figure(run([made_record(i) for i in range(10)]), "ttft_ms"), tmp_path / "a.png")
    zero = run([made_record(i, ttft_ms=0.0, run_id="zero") for i in range(10)])
    save(cdf_figure(zero, "ttft_ms"), tmp_path / "b.png")


def test_foreign_names_are_drawn_as_they_are_and_never_as_mathematics(run, tmp_path):
    model = r"a$\frac{b}$ x^2 \u202e"
    plotted = run(list(level(8)), scenario={"model": model, "dataset": "file:/tmp/$a_b$.jsonl"})
    figure = cdf_figure(plotted, "ttft_ms")
    save(figure, tmp_path / "a.png")  # a parsed formula would raise here
    assert r"a$\frac{b}$ x^2" in texts(figure)
    assert "$a_b$" in texts(figure)


def test_characters_that_the_font_lacks_become_question_marks():
    assert drawable("模型-7b") == "??-7b"
    assert drawable("Привет é") == "Привет é"


def test_doubts_and_simulation_are_said_under_the_title(run):
    records = [*level(8, count=50), failed_record(50, run_id="made-cc8-0", concurrency=8)]
    found = texts(cdf_figure(run(records, server={"simulator": "yes"}), "ttft_ms"))
    assert "Verdict: INVALID (errors, window_short)" in found
    assert "simulated server" in found


def test_an_overlay_tells_levels_apart_by_more_than_colour(run):
    runs = [run(list(level(c))) for c in (1, 8, 32)]
    figure = overlay_figure(runs, "ttft_ms")
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == [
        "1 stream, n 400",
        "8 streams, n 400",
        "32 streams, n 400",
    ]
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert len({getattr(line, look)() for line in lines}) == 3


def test_repeats_of_a_level_share_its_look_and_one_label(run):
    figure = overlay_figure([run(list(level(8, repeat=n))) for n in range(3)], "latency_ms")
    lines = figure.axes[0].lines
    assert len(lines) == 3
    assert {line.get_color() for line in lines} == {COLOURS[0]}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["8 streams, n 1,200 in 3 runs"]


def test_more_levels_than_colours_still_make_a_picture(run, tmp_path):
    runs = [run(list(level(c, count=20))) for c in range(1, 13)]
    save(overlay_figure(runs, "ttft_ms"), tmp_path / "a.png")
    save(load_figure([r.summary for r in runs]), tmp_path / "b.png")


def test_against_load_the_line_runs_through_medians_and_each_run_is_a_dot(run):
    summaries = [run(list(level(c, repeat=n))).summary for c in (1, 8) for n in range(3)]
    figure = load_figure(summaries)
    ttft, latency, tokens = figure.axes
    line = ttft.lines[0]
    medians = [
        np.median([s.percentile("ttft_ms", 50) for s in summaries if s.concurrency == c])
        for c in (1, 8)
    ]
    assert list(line.get_xdata()) == [1, 8]
    assert list(line.get_ydata()) == pytest.approx(medians)
    assert len(ttft.lines[1].get_xdata()) == 6
    assert latency.get_ylabel().startswith("latency (ms)")
    assert tokens.get_ylabel() == "output tokens/s,\nwhole run"
    assert tokens.get_ylim()[0] == 0
    assert "each run (line: median of a level)" in texts(figure)


def test_against_load_a_level_that_is_not_valid_says_so_under_its_tick(run):
    bad = [failed_record(i, run_id="bad", concurrency=16) for i in range(100)]
    runs = [run(list(level(c))).summary for c in (1, 8)] + [run(bad).summary]
    figure = load_figure(runs)
    figure.canvas.draw()
    labels = [t.get_text() for t in figure.axes[-1].get_xticklabels()]
    assert labels == ["1", "8", "16\nINVALID"]


def test_against_load_few_requests_have_no_p95_and_say_why(run):
    figure = load_figure([run(list(level(c, count=40))).summary for c in (1, 8)])
    assert "p95 needs 72 successes in a run" in texts(figure)
    assert len(figure.axes[0].lines) == 1


def test_a_panel_without_any_value_is_left_out(run):
    runs = []
    for c in (1, 8):
        records = [whole_reply_record(i, run_id=f"w{c}", concurrency=c) for i in range(80)]
        runs.append(run(records, scenario={"stream": False}).summary)
    assert [a.get_ylabel() for a in load_figure(runs).axes] == [
        "latency (ms)",
        "output tokens/s,\nwhole run",
    ]


def test_what_cannot_be_drawn_says_why(run):
    whole = run([whole_reply_record(i) for i in range(80)], scenario={"stream": False})
    failed = run([failed_record(i, run_id="f") for i in range(10)])
    ttft, latency = run_pictures(whole)
    assert ttft.draw is None
    assert ttft.why_not == "stream: false, so a reply is one piece"
    assert latency.draw is not None
    assert {p.why_not for p in run_pictures(failed)} == {"no request succeeded"}
    assert [p.draw for p in scenario_pictures([whole])] == [None]


def test_a_foreign_scenario_cannot_name_a_file_elsewhere(run):
    runs = [run([made_record(0, scenario="../../x", run_id=f"r{n}")]) for n in range(2)]
    assert all("/" not in p.file_name for p in scenario_pictures(runs))


def test_a_saved_picture_is_a_png_of_a_size_to_look_at(run, tmp_path):
    path = tmp_path / "a.png"
    save(cdf_figure(run(list(level(8))), "ttft_ms"), path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") >= 1200
    assert list(tmp_path.glob("*.tmp")) == []
