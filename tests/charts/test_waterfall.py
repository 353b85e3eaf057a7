"""A row a request: each part as long as its stamps say, and the rows that are drawn named."""

from __future__ import annotations

import numpy as np
import pytest
from vllm_bench.charts.waterfall import MOST_ROWS, waterfall
from vllm_bench.charts.waterfall_figure import waterfall_figure
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import summarize

from tests.charts.drawn import facts_at, legend_words, overflowing, texts, write_tokens, written
from tests.support.made_runs import failed_record, made_record, whole_reply_record


def drawn(path):
    return waterfall_figure(summarize(load_run(path)), waterfall(facts_at(path)))


def bars(figure, label):
    """(row, from, to) of a kind of part."""
    (kind,) = (c for c in figure.axes[0].containers if c.get_label() == label)
    return [
        (round(p.get_y() + p.get_height() / 2), p.get_x(), p.get_x() + p.get_width()) for p in kind
    ]


def close(found, expected):
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-6)


@pytest.fixture
def four(tmp_path):
    """Two streams: a request that the client kept back, one that failed, one that stalled."""
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
    found = waterfall(facts_at(four))
    window = facts_at(four).window
    assert window.start_s == pytest.approx(0.5)
    assert list(found.request_index) == [2, 3]
    assert list(found.failed) == [True, False]
    figure = drawn(four)
    close(bars(figure, "until first token (queue and prefill)"), [(1, 1.2, 1.3)])
    close(bars(figure, "decode"), [(1, 1.3, 2.5)])
    close(bars(figure, "failed"), [(0, 1.0, 1.2)])
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [list(line.get_ydata()) for line in crosses] == [[0]]


def test_the_clients_own_wait_stands_before_the_send(tmp_path):
    records = [
        made_record(i, t_sent_s=i / 4 + 0.5 * (i == 9), t_scheduled_s=i / 4) for i in range(40)
    ]
    figure = drawn(written(tmp_path, records))
    first = waterfall(facts_at(tmp_path / f"{records[0].run_id}.csv")).request_index[0]
    close(bars(figure, "the client's own wait"), [(9 - first, 2.25, 2.75)])


def test_a_wait_of_five_itl_is_a_lighter_part_of_its_own_request(four):
    found = waterfall(facts_at(four))
    assert found.gap_limit_ms == pytest.approx(225, abs=0.1)
    close(found.gaps, [(1, 1.3 + 9 * 0.045, 1.3 + 10 * 0.045 + 0.3)])
    assert "no token for over 225 ms (5 x ITL p50)" in legend_words(drawn(four))


def test_no_wait_is_drawn_where_no_stamps_were_kept(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(40)])
    assert waterfall(facts_at(path)).gaps == ()
    assert not any("no token" in words for words in legend_words(drawn(path)))


def test_more_requests_than_rows_are_chosen_evenly_and_the_picture_says_so(tmp_path):
    path = written(tmp_path, [made_record(i, concurrency=100) for i in range(1000)])
    found = waterfall(facts_at(path))
    assert found.request_index.size == MOST_ROWS
    assert found.words.endswith("requests of the steady window, evenly chosen")
    steps = np.diff(found.request_index)
    assert steps.max() - steps.min() <= 1
    assert "evenly chosen" in texts(drawn(path))


def test_of_a_long_run_the_first_requests_are_shown_since_bars_would_be_slivers(tmp_path):
    path = written(tmp_path, [made_record(i) for i in range(300)])
    found = waterfall(facts_at(path))
    rows = found.request_index.size
    assert 100 < rows < MOST_ROWS
    assert f"the first {rows} of" in found.words
    assert (np.diff(found.request_index) == 1).all()
    spread = found.scheduled[-1] - found.scheduled[0]
    assert np.median(found.end - found.scheduled) >= 0.03 * spread


def test_without_a_steady_window_the_whole_run_is_shown(tmp_path):
    path = written(tmp_path, [made_record(0)], concurrency=9)
    assert waterfall(facts_at(path)).words == "all 1 request of the run"
    assert overflowing(drawn(path)) == []


def test_a_reply_in_one_piece_has_no_decode(tmp_path):
    records = [whole_reply_record(i) for i in range(40)]
    figure = drawn(written(tmp_path, records, scenario={"stream": False}))
    assert legend_words(figure) == ["until the reply, which came in one piece"]
