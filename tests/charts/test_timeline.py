"""A run on one clock: each panel holds what the files say, and none is there without data."""

from __future__ import annotations

import numpy as np
import pytest
from vllm_bench.charts.over_time import Room
from vllm_bench.charts.timeline import timeline

from tests.charts.drawn import by_name, facts_at, overflowing, picture, write_tokens, written
from tests.support.made_runs import (
    failed_record,
    gpu_row,
    made_record,
    server_row,
    whole_reply_record,
    write_gpu_rows,
    write_server_rows,
)
from tests.support.reading import numbers

FLIGHT, TOKENS, TIMES, KV = "requests", "tokens/s", "TTFT (ms)", "KV cache\nin use (%)"
BUSY, POWER, HEAT = "GPU\nbusy (%)", "power (W)", "temp. (°C)"


def lined(path, room=None):
    """The timeline of a run that was written."""
    return timeline(facts_at(path), room or Room())


def words(chart):
    return [panel.y.words for panel in chart.panels]


def lines(chart, panel):
    """The lines of a panel by their names."""
    return by_name(next(p for p in chart.panels if p.y.words == panel).lines)


def bands(chart, role, panel=-1):
    return [band for band in chart.panels[panel].bands if band.role == role]


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
    chart = lined(full)
    assert words(chart) == ["requests/s", FLIGHT, TOKENS, TIMES, KV, BUSY, POWER, HEAT]
    assert chart.note == ""
    assert chart.x.span == pytest.approx((-1, 11), abs=0.1)
    figure = picture(chart)
    assert {axes.get_xlim() for axes in figure.axes} == {chart.x.span}
    assert overflowing(figure) == []


def test_arrivals_flight_and_tokens_are_what_the_rows_say(full):
    chart, facts = lined(full), facts_at(full)
    for rate in lines(chart, "requests/s").values():  # and what ended
        assert (rate.y[:-1] * np.diff(rate.x)).sum() == pytest.approx(40)
    flight, running, waiting = lines(chart, FLIGHT).values()
    assert list(flight.x) == list(facts.flight.times_s)
    assert list(flight.y) == list(facts.flight.levels)
    assert set(running.y) == {3}
    assert set(waiting.y) == {1}
    (tokens,) = lines(chart, TOKENS).values()
    assert (tokens.y[:-1] * np.diff(tokens.x)).sum() == pytest.approx(39 * 20)


def test_every_success_is_a_dot_at_its_send_and_a_failure_is_a_cross(full):
    times = lines(lined(full), TIMES)
    dots, pale, crosses = times.values()
    window = facts_at(full).window
    sent = [i / 4 for i in range(40) if i != 5]
    assert list(dots.x) == [t for t in sent if window.start_s <= t < window.end_s]
    assert sorted([*dots.x, *pale.x]) == sent
    assert pale.x.size > 0
    assert (dots.colour, pale.colour) == ("c0", "pale")
    assert numbers(dots.label) + numbers(pale.label) == [dots.x.size, pale.x.size]
    assert set(dots.y) == set(pale.y) == {100.0}
    assert crosses.label == "http_5xx: 1"
    assert (crosses.role, list(crosses.x)) == ("crosses", [1.25])
    assert crosses.y[0] > dots.y.max()
    assert numbers(crosses.words[0])[:2] == [5, 1.25]  # which request, begun when
    assert "http_5xx: 1" in words_beside(picture(lined(full)))


def test_a_gpu_that_throttles_and_one_that_is_lost_are_shown(full):
    chart = lined(full)
    first, second, lost = lines(chart, POWER).values()
    assert (first.name, second.name) == ("GPU 0", "GPU 1")
    assert lost.name.startswith("GPU 1: ")
    assert lost.x == pytest.approx([7], abs=0.11)
    (held,) = bands(chart, "throttled")
    assert held.spans == [pytest.approx((4, 6.1), abs=0.11)]
    found = words_beside(picture(chart))
    assert sum("GPU 0\n(hw_thermal_slowdown)" in words for words in found) == 1
    assert found.count(lost.name) == 1


def test_a_gpu_keeps_its_colour_where_another_lacks_the_sensor(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    rows = [gpu_row(t, power_w=None) for t in np.arange(0.0, 10)]
    write_gpu_rows(path, [*rows, *(gpu_row(t, gpu_index=1) for t in np.arange(0.0, 10))])
    chart = lined(path)
    assert list(lines(chart, POWER)) == ["GPU 1"]
    assert lines(chart, POWER)["GPU 1"].colour == lines(chart, BUSY)["GPU 1"].colour


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
    figure = picture(lined(path))
    assert overflowing(figure) == []
    found = words_beside(figure)
    assert [word for word in found if word.startswith("GPU")] == [f"GPU {n}" for n in range(8)]
    held_down = [word.split() for word in found if "_" in word]
    assert [word[word.index("GPU") + 1 :] for word in held_down] == [
        ["2,", "5", "(sw_power_cap)"],
        ["6", "(hw_slowdown)"],
    ]
    assert figure.axes[0].get_position().width > 0.6


def test_the_steady_window_is_shaded_and_so_is_what_lies_beside_it(full):
    chart, window = lined(full), facts_at(full).window
    for place in range(len(chart.panels)):
        (steady,) = bands(chart, "window", place)
        assert steady.spans == [(window.start_s, window.end_s)]
    figure = picture(chart)
    beside = [band.name for role in ("aside", "outside") for band in bands(chart, role)]
    assert len(set(beside)) == 2
    assert set(beside) <= set(words_beside(figure))


def test_what_was_not_sampled_has_no_panel_and_the_note_says_why(tmp_path):
    chart = lined(written(tmp_path, [made_record(i) for i in range(40)]))
    assert words(chart) == ["requests/s", FLIGHT, TIMES]
    for what in ("tokens/s (", "the server (", "GPUs ("):
        assert what in chart.note
    (note,) = (legend.get_title().get_text() for legend in picture(chart).legends)
    assert " ".join(note.split()) == chart.note


def test_the_runs_own_words_say_why_a_sampler_gave_nothing(tmp_path):
    text = "the server isn't on this machine"
    noted = {"gpu": {"problems": [{"code": "server_elsewhere", "text": text}]}}
    path = written(tmp_path, [made_record(i) for i in range(9)], observed=noted)
    assert f"GPUs ({text})" in lined(path).note


def test_a_reply_in_one_piece_has_latency_for_a_dot(tmp_path):
    records = [whole_reply_record(i) for i in range(40)]
    chart = lined(written(tmp_path, records, scenario={"stream": False}))
    assert [set(dots.y) for dots in lines(chart, "latency (ms)").values()] == [{1000.0}] * 2


def test_a_run_without_a_success_is_crosses_alone(tmp_path):
    records = [failed_record(i) for i in range(40)]
    records[3] = failed_record(3, t_sent_s=None, t_scheduled_s=0.75, error_kind="connect")
    chart = lined(written(tmp_path, records))
    assert list(lines(chart, TIMES)) == ["http_5xx: 39", "connect: 1"]
    picture(chart).draw_without_rendering()


def test_engines_are_apart_in_kv_use_and_together_in_requests(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    rows = [
        server_row(float(t), engine=name, running=run, waiting=0.0, kv_cache_usage=use)
        for t in range(10)
        for name, run, use in (("all", 5.0, 0.5), ("0", 2.0, 0.2), ("1", 3.0, 0.8))
    ]
    write_server_rows(path, rows)
    chart = lined(path)
    assert set(lines(chart, FLIGHT)["running (server)"].y) == {5}
    kv = {name: set(line.y) for name, line in lines(chart, KV).items()}
    assert kv == {"engine 0": {20.0}, "engine 1": {80.0}}


def test_of_many_dots_the_extremes_stay_and_the_note_says_how_many(tmp_path):
    rng = np.random.default_rng(0)
    ttft = rng.lognormal(4, 1, 8000).round(3)
    records = [made_record(i, ttft_ms=float(t), t_sent_s=i / 100) for i, t in enumerate(ttft)]
    path = written(tmp_path, records)
    chart = lined(path)
    dots, *_ = lines(chart, TIMES).values()
    counted = ttft[facts_at(path).counted]
    assert dots.x.size < 4000
    assert (dots.y.min(), dots.y.max()) == (counted.min(), counted.max())
    assert f"{dots.x.size:,} of {counted.size:,}" in chart.note


def test_of_many_failures_some_are_marked_and_the_note_says_how_many(tmp_path):
    chart = lined(written(tmp_path, [failed_record(i) for i in range(500)]), Room(line=60))
    (crosses,) = lines(chart, TIMES).values()
    assert crosses.x.size == len(crosses.words) <= 60
    assert (crosses.x[0], crosses.x[-1]) == (0, 499 / 4)
    assert f"http_5xx: 500 failures {crosses.x.size} are marked" in chart.note


def test_a_run_in_which_nothing_was_sent_is_arrivals_and_crosses(tmp_path):
    nothing = {"t_sent_s": None, "error_kind": "connect"}
    chart = lined(written(tmp_path, [failed_record(i, **nothing) for i in range(3)]))
    assert words(chart) == ["requests/s", TIMES]
    assert list(lines(chart, TIMES)) == ["connect: 3"]


def test_a_run_without_a_request_has_no_timeline(tmp_path):
    assert lined(written(tmp_path, [])) is None


def test_an_open_loops_dots_stand_at_the_schedule_and_count_from_it(tmp_path):
    records = [made_record(i, request_rate=8.0, send_lag_ms=50.0) for i in range(40)]
    found = lines(lined(written(tmp_path, records)), "TTFT from\nschedule (ms)").values()
    assert sorted(x for dots in found for x in dots.x) == [i / 8 for i in range(40)]
    assert {y for dots in found for y in dots.y} == {150.0}
