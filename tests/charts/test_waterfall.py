"""One row per request: each part is as long as its stamps say; the note names the rows."""

from __future__ import annotations

import numpy as np
import pytest
from vllm_bench.charts.waterfall import MOST_ROWS, waterfall

from tests.charts.drawn import (
    by_name,
    facts_at,
    legend_words,
    overflowing,
    picture,
    write_tokens,
    written,
)
from tests.support.made_runs import failed_record, made_record, whole_reply_record

QUEUE = "until first token (queue and prefill)"


def drawn(path):
    return waterfall(facts_at(path))


def bars(chart, name):
    """(row, from, to) of a kind of part."""
    line = next(line for line in chart.lines if line.name == name and line.until is not None)
    return list(zip(line.y, line.x, line.until, strict=True))


def close(found, expected):
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-6)


def rows(chart):
    """How many rows it has."""
    return round(chart.panels[0].y.span[0] + 0.3)


@pytest.fixture
def four(tmp_path):
    """Too short for a window: one that the client kept back, one that failed, one that stalled."""
    records = [
        made_record(0, concurrency=2, t_sent_s=0.5, t_scheduled_s=0.0),
        made_record(1, concurrency=2, t_sent_s=0.0),
        failed_record(2, concurrency=2, t_sent_s=1.0, latency_ms=200.0),
        made_record(3, concurrency=2, t_sent_s=1.2, latency_ms=1300.0),
    ]
    path = written(tmp_path, records)
    stamps = {i: t + 0.1 + 0.045 * np.arange(20) for i, t in ((0, 0.5), (1, 0.0), (3, 1.2))}
    stamps[3] = np.r_[stamps[3][:10], stamps[3][10:] + 0.3]
    write_tokens(path, stamps)
    return path


def test_each_part_of_a_request_is_as_long_as_it_took(four):
    chart = drawn(four)
    assert rows(chart) == 4
    close(bars(chart, QUEUE), [(0, 0.5, 0.6), (1, 0.0, 0.1), (3, 1.2, 1.3)])
    close(bars(chart, "decode"), [(0, 0.6, 1.5), (1, 0.1, 1.0), (3, 1.3, 2.5)])
    close(bars(chart, "failed"), [(2, 1.0, 1.2)])
    (crosses,) = (line for line in chart.lines if line.role == "crosses")
    assert (list(crosses.x), list(crosses.y)) == ([1.2], [2])


def test_the_rows_are_the_requests_that_the_figures_are_of(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    facts, chart = facts_at(path), drawn(path)
    assert rows(chart) == facts.counted.sum() < 40
    assert "steady window" in chart.note


def test_the_picture_has_a_bar_for_each_part(four):
    figure = picture(drawn(four))
    (decode,) = (c for c in figure.axes[0].containers if c.get_label() == "decode")
    *_, bar = decode
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((1.3, 2.5))
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the first on top
    assert overflowing(figure) == []


def test_the_clients_own_wait_stands_before_the_send(tmp_path):
    records = [
        made_record(i, t_sent_s=i / 4 + 0.5 * (i == 9), t_scheduled_s=i / 4) for i in range(40)
    ]
    ((_, begin, end),) = bars(drawn(written(tmp_path, records)), "the client's own wait")
    assert (begin, end) == pytest.approx((2.25, 2.75))


def test_a_wait_of_five_itl_is_a_lighter_part_of_its_own_request(four):
    chart = drawn(four)
    expected = [(3, 1.3 + 9 * 0.045, 1.3 + 10 * 0.045 + 0.3)]
    close(bars(chart, "no token for over 225 ms (5 x ITL p50)"), expected)


def test_no_wait_is_drawn_where_no_stamps_were_kept(tmp_path):
    chart = drawn(written(tmp_path, [made_record(i) for i in range(40)]))
    assert set(by_name(chart.lines)) == {QUEUE, "decode"}


def test_more_requests_than_rows_are_chosen_evenly_and_the_note_says_so(tmp_path):
    chart = drawn(written(tmp_path, [made_record(i, concurrency=100) for i in range(1000)]))
    assert rows(chart) == MOST_ROWS
    assert "evenly chosen" in chart.note
    steps = np.diff([begin for _, begin, _ in bars(chart, QUEUE)])
    assert steps.max() - steps.min() <= 0.2501  # one request


def test_of_a_long_run_the_first_requests_are_shown_since_bars_would_be_slivers(tmp_path):
    chart = drawn(written(tmp_path, [made_record(i) for i in range(300)]))
    assert 100 < rows(chart) < MOST_ROWS
    assert f"the first {rows(chart)} of" in chart.note
    begins = np.array([begin for _, begin, _ in bars(chart, QUEUE)])
    assert np.diff(begins) == pytest.approx(0.25)
    lengths = [end - begin for _, begin, end in bars(chart, "decode")]
    assert np.median(lengths) >= 0.9 * 0.03 * (begins[-1] - begins[0])


def test_without_a_steady_window_the_whole_run_is_shown(tmp_path):
    chart = drawn(written(tmp_path, [made_record(0)], concurrency=9))
    assert "all 1 request" in chart.note
    assert overflowing(picture(chart)) == []


def test_a_reply_in_one_piece_has_no_decode(tmp_path):
    records = [whole_reply_record(i) for i in range(40)]
    chart = drawn(written(tmp_path, records, scenario={"stream": False}))
    assert "decode" not in by_name(chart.lines)
    assert len(legend_words(picture(chart))) == 1
