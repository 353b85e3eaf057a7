"""A run on one clock: each panel holds what the files say, and none is there without data."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from vllm_bench.charts.timeline import timeline
from vllm_bench.charts.timeline_figure import timeline_figure
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import summarize

from tests.charts.drawn import facts_at, overflowing, texts, write_tokens, written
from tests.support.made_runs import (
    failed_record,
    gpu_row,
    made_record,
    server_row,
    whole_reply_record,
    write_gpu_rows,
    write_server_rows,
)

ALL_KEYS = ["arrivals", "in_flight", "tokens", "times", "kv", "utilization", "power", "temperature"]


def lined(path):
    """The timeline of a run that was written."""
    return timeline(facts_at(path))


def drawn(path):
    """The picture of it."""
    return timeline_figure(summarize(load_run(path)), lined(path))


def panel(line, key):
    return next(p for p in line.panels if p.key == key)


def words_beside(figure):
    return [t.get_text() for a in figure.axes if a.get_legend() for t in a.get_legend().get_texts()]


@pytest.fixture
def full(tmp_path):
    """A run of ten seconds with everything beside it: GPU 0 throttles, GPU 1 is lost."""
    records = [made_record(i) for i in range(40)]
    records[5] = failed_record(5)
    path = written(tmp_path, records)
    stamps = {i: i / 4 + 0.1 + 0.045 * np.arange(20) for i in range(40) if i != 5}
    write_tokens(path, stamps)
    rows = []
    for t in np.arange(-1, 11, 0.1):
        held = "hw_thermal_slowdown|gpu_idle" if 4 <= t <= 6.001 else "none"
        rows.append(gpu_row(t, throttle_reasons=held, power_w=300 - 100 * (held != "none")))
        if t < 7:
            rows.append(gpu_row(t, gpu_index=1, power_w=250.0))
    write_gpu_rows(path, rows)
    seconds = np.arange(-1.0, 11)
    load = {"running": 3.0, "waiting": 1.0, "kv_cache_usage": 0.25}
    write_server_rows(
        path, [server_row(t, engine=e, **load) for t in seconds for e in ("all", "0")]
    )
    return path


def test_every_panel_is_there_on_one_axis_and_nothing_is_missing(full):
    line = lined(full)
    assert [p.key for p in line.panels] == ALL_KEYS
    assert line.absent == {}
    figure = drawn(full)
    assert len(figure.axes) == len(ALL_KEYS)
    assert {axes.get_xlim() for axes in figure.axes} == {line.shown}
    assert figure.axes[-1].get_xlabel() == "seconds from the run's start"
    assert line.shown == pytest.approx((-1, 11), abs=0.1)
    assert overflowing(figure) == []


def test_arrivals_flight_and_tokens_are_what_the_rows_say(full):
    line = lined(full)
    facts = facts_at(full)
    for rate in panel(line, "arrivals").tracks:  # and what ended
        assert (rate.values[:-1] * np.diff(rate.times)).sum() == pytest.approx(40)
    flight, running, waiting = panel(line, "in_flight").tracks
    assert list(flight.times) == list(facts.flight.times_s)
    assert list(flight.values) == list(facts.flight.levels)
    assert set(running.values) == {3}
    assert set(waiting.values) == {1}
    (tokens,) = panel(line, "tokens").tracks
    assert (tokens.values[:-1] * np.diff(tokens.times)).sum() == pytest.approx(39 * 20)


def test_every_success_is_a_dot_at_its_send_and_a_failure_is_a_cross(full):
    dots = panel(lined(full), "times").dots
    assert list(dots.times) == [i / 4 for i in range(40) if i != 5]
    assert set(dots.values) == {100.0}
    assert {kind: list(times) for kind, times in dots.failures.items()} == {"http_5xx": [1.25]}
    figure = drawn(full)
    assert "http_5xx: 1" in words_beside(figure)
    (cross,) = (line for line in figure.axes[3].lines if line.get_label() == "http_5xx: 1")
    assert (cross.get_marker(), list(cross.get_xdata())) == ("x", [1.25])


def test_a_gpu_that_throttles_and_one_that_is_lost_are_told(full):
    power = panel(lined(full), "power")
    assert [track.name for track in power.tracks] == ["GPU 0", "GPU 1"]
    assert [track.lost for track in power.tracks] == [False, True]
    assert power.tracks[1].times[-1] == pytest.approx(7, abs=0.11)
    (held,) = power.held
    ((begin, end),) = held.spans
    assert (held.gpu, held.why) == ("GPU 0", "hw_thermal_slowdown")
    assert (begin, end) == pytest.approx((4, 6.1), abs=0.11)
    found = words_beside(drawn(full))
    assert "clocks held down\nGPU 0\n(hw_thermal_slowdown)" in found
    assert found.count("GPU 1: no more readings") == 1


def test_a_gpu_keeps_its_colour_where_another_lacks_the_sensor(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    rows = [gpu_row(t, power_w=None) for t in np.arange(0.0, 10)]
    write_gpu_rows(path, [*rows, *(gpu_row(t, gpu_index=1) for t in np.arange(0.0, 10))])
    line = lined(path)
    assert [t.place for t in panel(line, "utilization").tracks] == [0, 1]
    assert [(t.name, t.place) for t in panel(line, "power").tracks] == [("GPU 1", 1)]


def test_eight_gpus_have_a_name_each_and_the_panels_keep_their_width(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    held = {2: "sw_power_cap", 5: "sw_power_cap", 6: "hw_slowdown"}
    seconds = np.arange(0.0, 10)
    write_gpu_rows(
        path,
        [
            gpu_row(t, gpu_index=g, throttle_reasons=held.get(g, "none"))
            for t in seconds
            for g in range(8)
        ],
    )
    figure = drawn(path)
    assert overflowing(figure) == []
    found = words_beside(figure)
    assert [word for word in found if word.startswith("GPU")] == [f"GPU {n}" for n in range(8)]
    (held_down,) = (" ".join(word.split()) for word in found if word.startswith("clocks"))
    assert held_down == "clocks held down GPU 2, 5 (sw_power_cap); GPU 6 (hw_slowdown)"
    assert figure.axes[0].get_position().width > 0.6


def test_the_steady_window_is_shaded_and_so_is_what_lies_beside_it(full):
    facts = facts_at(full)
    figure = drawn(full)
    for axes in figure.axes:
        spans = {
            p.get_label(): (p.get_x(), p.get_x() + p.get_width())
            for p in axes.patches
            if isinstance(p, Rectangle) and p.get_label() == "steady window"
        }
        window = (facts.window.start_s, facts.window.end_s)
        assert spans == {"steady window": pytest.approx(window)}
    assert {"start-up and drain", "before and after the run"} <= set(words_beside(figure))


def test_what_was_not_sampled_has_no_panel_and_the_picture_says_why(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    line = lined(path)
    assert [p.key for p in line.panels] == ["arrivals", "in_flight", "times"]
    (note,) = (legend.get_title().get_text() for legend in drawn(path).legends)
    said = " ".join(note.split())
    assert "tokens/s (no tokens/" in said
    assert "the server (its metrics were not sampled in this run)" in said
    assert "GPUs (they were not sampled in this run)" in said


def test_the_runs_own_words_say_why_a_sampler_gave_nothing(tmp_path):
    text = "the server isn't on this machine"
    noted = {"gpu": {"problems": [{"code": "server_elsewhere", "text": text}]}}
    path = written(tmp_path, [made_record(i) for i in range(9)], observed=noted)
    assert lined(path).absent["GPUs"] == text


def test_a_reply_in_one_piece_has_latency_for_a_dot(tmp_path):
    records = [whole_reply_record(i) for i in range(40)]
    path = written(tmp_path, records, scenario={"stream": False})
    times = panel(lined(path), "times")
    assert times.label == "latency (ms)"
    assert set(times.dots.values) == {1000.0}


def test_a_run_without_a_success_is_crosses_alone(tmp_path):
    records = [failed_record(i) for i in range(40)]
    records[3] = failed_record(3, t_sent_s=None, t_scheduled_s=0.75, error_kind="connect")
    figure = drawn(written(tmp_path, records))
    found = words_beside(figure)
    assert "http_5xx: 39" in found
    assert "connect: 1" in found
    assert not any(words.startswith("succeeded") for words in found)


def test_engines_are_apart_in_kv_use_and_together_in_requests(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    rows = [
        server_row(float(t), engine=name, running=run, waiting=0.0, kv_cache_usage=use)
        for t in range(10)
        for name, run, use in (("all", 5.0, 0.5), ("0", 2.0, 0.2), ("1", 3.0, 0.8))
    ]
    write_server_rows(path, rows)
    line = lined(path)
    assert set(panel(line, "in_flight").tracks[1].values) == {5}
    kv = panel(line, "kv").tracks
    assert {t.name: set(t.values) for t in kv} == {"engine 0": {20.0}, "engine 1": {80.0}}


def test_of_many_dots_the_extremes_stay_and_the_picture_says_how_many(tmp_path):
    rng = np.random.default_rng(0)
    ttft = rng.lognormal(4, 1, 8000).round(3)
    records = [made_record(i, ttft_ms=float(t), t_sent_s=i / 100) for i, t in enumerate(ttft)]
    path = written(tmp_path, records)
    dots = panel(lined(path), "times").dots
    assert dots.of == 8000
    assert dots.times.size < 4000
    assert (dots.values.min(), dots.values.max()) == (ttft.min(), ttft.max())
    said = " ".join(texts(drawn(path)).split())
    assert f"{dots.times.size:,} of 8,000 dots are drawn, since all would be ink" in said
    assert "Lines run through the lowest and the highest point of each column" in said


def test_a_run_in_which_nothing_was_sent_is_arrivals_and_crosses(tmp_path):
    nothing = {"t_sent_s": None, "error_kind": "connect"}
    path = written(tmp_path, [failed_record(i, **nothing) for i in range(3)])
    line = lined(path)
    assert [p.key for p in line.panels] == ["arrivals", "times"]
    assert [f.kind for f in panel(line, "times").dots.first_failures] == ["connect"] * 3
    assert "connect: 3" in words_beside(drawn(path))


def test_a_run_without_a_request_has_no_timeline(tmp_path):
    assert lined(written(tmp_path, [])) is None


def test_an_open_loops_dots_stand_at_the_schedule_and_count_from_it(tmp_path):
    records = [made_record(i, request_rate=8.0, send_lag_ms=50.0) for i in range(40)]
    times = panel(lined(written(tmp_path, records)), "times")
    assert times.label == "TTFT from\nschedule (ms)"
    assert list(times.dots.times) == [i / 8 for i in range(40)]
    assert set(times.dots.values) == {150.0}
