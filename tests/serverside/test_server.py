"""The server's own account beside the client's: the same figures by hand, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.beside.samples import ServerRow
from vllm_bench.records.find_runs import load_run
from vllm_bench.serverside.server import FROM_ROWS, ServerSide
from vllm_bench.summary.summary import summarize

from tests.support.made_runs import (
    failed_record,
    made_info,
    made_record,
    server_row,
    write_run,
    write_server_rows,
)


def side_of(folder: Path, rows: list[ServerRow] | None, **changes: Any) -> ServerSide:
    """The server's side of a hundred seconds: a request each 250 ms, its first token 100 ms on."""
    records = [made_record(i) for i in range(400)]
    path = write_run(folder, records, made_info(records, **changes))
    if rows is not None:
        write_server_rows(path, rows)
    return summarize(load_run(path)).server_side


def each_second(until: int = 110, **said: Any) -> list[ServerRow]:
    """A row a second from before the run on; what is said may be a function of time."""
    return [
        server_row(float(t), **{k: v(t) if callable(v) else v for k, v in said.items()})
        for t in range(-1, until)
    ]


def test_the_servers_ttft_stands_beside_the_clients_of_the_same_time(tmp_path: Path) -> None:
    # Four first tokens a second, two of 60 ms and, from 50 s on, four of 90 ms.
    rows = each_second(
        ttft_count=lambda t: 2 if t < 50 else 4, ttft_mean_ms=lambda t: 60.0 if t < 50 else 90.0
    )
    side = side_of(tmp_path, rows)
    # The window is 1.75 s to 100 s, so readings at 2 to 100 s: intervals that end at 3 to 100 s.
    early, late = 47 * 2, 51 * 4
    mean_ms = (early * 60 + late * 90) / (early + late)
    assert side.samples == 99
    assert side.ttft_mean_ms == pytest.approx(mean_ms)
    assert side.ttft_count == early + late
    assert side.client_ttft_mean_ms == pytest.approx(100)
    assert side.client_ttft_count == 98 * 4
    assert side.ttft_outside_ms == pytest.approx(100 - mean_ms)


def test_queue_prefill_and_decode_are_of_the_requests_that_ended(tmp_path: Path) -> None:
    spent = {"ttft": 80.0, "queue": 20.0, "prefill": 50.0, "decode": 700.0}
    rows = each_second(
        **{f"{name}_mean_ms": ms for name, ms in spent.items()},
        **{f"{name}_count": 4 for name in spent},
    )
    side = side_of(tmp_path, rows)
    assert (side.queue_mean_ms, side.prefill_mean_ms, side.decode_mean_ms) == (20, 50, 700)
    assert side.queue_share_of_ttft == 0.25


def test_a_queue_longer_than_the_ttft_is_no_share_of_it(tmp_path: Path) -> None:
    # What ends now came while the queue was long; what begins now finds none.
    rows = each_second(ttft_mean_ms=80.0, ttft_count=4, queue_mean_ms=300.0, queue_count=4)
    side = side_of(tmp_path, rows)
    assert (side.queue_mean_ms, side.queue_share_of_ttft) == (300, None)
    assert set(side.absent) >= {"queue_share_of_ttft"}


def test_where_the_tail_has_first_tokens_too_nothing_is_compared(tmp_path: Path) -> None:
    # Ten seconds of arrivals whose median reply takes a hundred: no window, and all in its tail.
    records = [
        made_record(i, request_rate=1.0, t_sent_s=float(i), latency_ms=100_000.0) for i in range(10)
    ]
    info = made_info(records, unmeasured={"tail": 60})
    path = write_run(tmp_path, records, info)
    write_server_rows(path, each_second(ttft_mean_ms=80.0, ttft_count=4))
    side = summarize(load_run(path)).server_side
    assert side.ttft_mean_ms == 80
    assert side.client_ttft_mean_ms is None
    assert side.ttft_outside_ms is None
    assert "tail" in side.absent["ttft_outside_ms"]


def test_gauges_are_means_over_time_and_peaks(tmp_path: Path) -> None:
    rows = each_second(
        kv_cache_usage=lambda t: 0.9 if t == 50 else 0.1,
        running=4.0,
        waiting=lambda t: 10.0 if t >= 51 else 0.0,
    )
    side = side_of(tmp_path, rows)
    assert side.kv_cache_mean == pytest.approx(0.1 + 0.8 / 98)  # a triangle a second high and wide
    assert side.kv_cache_peak == 0.9
    assert (side.running_mean, side.running_peak) == (4, 4)
    assert side.waiting_mean == pytest.approx(10 * 49.5 / 98)
    assert side.waiting_peak == 10


def test_engines_are_told_together(tmp_path: Path) -> None:
    rows = [
        server_row(t, engine, running=running)
        for t in (10.0, 11.0, 12.0)
        for engine, running in (("0", 1.0), ("1", 3.0), ("all", 4.0))
    ]
    side = side_of(tmp_path, rows)
    assert (side.samples, side.running_mean, side.running_peak) == (3, 4, 4)


def test_counters_come_from_the_run_before_and_after(tmp_path: Path) -> None:
    counters = {
        "vllm:num_preemptions_total": 7.0,
        "vllm:prefix_cache_queries_total": 1000.0,
        "vllm:prefix_cache_hits_total": 250.0,
    }
    before = {"vllm:num_preemptions_total": 5.0}
    side = side_of(tmp_path, None, server_counters={"before": before, "after": counters})
    assert (side.preemptions, side.prefix_cache_hit_rate) == (2, 0.25)
    assert "preemptions" not in side.absent
    assert not side.sampled


def test_a_failures_first_token_counts_on_both_sides(tmp_path: Path) -> None:
    """The server has counted it, too."""
    records = [made_record(i) for i in range(300)]
    records += [failed_record(i, ttft_ms=900.0, latency_ms=1000.0) for i in range(300, 400)]
    path = write_run(tmp_path, records, made_info(records))
    write_server_rows(path, each_second(ttft_count=4, ttft_mean_ms=50.0))
    side = summarize(load_run(path)).server_side
    assert side.client_ttft_mean_ms is not None
    assert side.client_ttft_mean_ms > 250


@pytest.mark.parametrize(
    ("rows", "observed", "why"),
    [
        (None, {}, "not sampled"),
        (
            None,
            {"server_metrics": {"problems": [{"code": "no_metrics", "text": "it has no page"}]}},
            "it has no page",
        ),
        (
            None,
            {"server_metrics": {"rows": 9, "file": "server_metrics/x.csv", "problems": []}},
            "server_metrics/x.csv",
        ),
        (None, {"server_metrics": "nonsense"}, "not sampled"),
        ([], {}, "98.2 s"),
        ([server_row(50.0, running=1.0), server_row(200.0)], {}, "1 of"),
    ],
)
def test_without_two_readings_each_figure_says_why(
    tmp_path: Path, rows: list[ServerRow] | None, observed: Any, why: str
) -> None:
    side = side_of(tmp_path, rows, observed=observed)
    assert set(FROM_ROWS) <= set(side.absent)
    assert all(why in side.absent[name] for name in FROM_ROWS)


def test_what_a_server_does_not_give_is_said_of_that_alone(tmp_path: Path) -> None:
    rows = each_second(running=1.0, ttft_count=0, queue_count=0)
    side = side_of(tmp_path, rows, server_counters={"before": None, "after": None})
    assert side.running_mean == 1
    by_reason: dict[str, set[str]] = {}
    for name in FROM_ROWS:
        if name in side.absent:
            by_reason.setdefault(side.absent[name], set()).add(name)
    assert list(by_reason.values()) == [
        {"ttft_mean_ms", "ttft_count", "ttft_outside_ms"},  # no first token
        {"queue_mean_ms", "queue_share_of_ttft"},  # no request ended
        {  # the server doesn't give it
            *("prefill_mean_ms", "decode_mean_ms"),
            *("kv_cache_mean", "kv_cache_peak", "waiting_mean", "waiting_peak"),
        },
    ]
    assert "counters" in side.absent["preemptions"]


def test_without_a_window_the_whole_run_is_meant(tmp_path: Path) -> None:
    """A run that never held its 16 streams."""
    records = [made_record(i, t_sent_s=i / 4) for i in range(40)]
    path = write_run(tmp_path, records, made_info(records, concurrency=16))
    write_server_rows(path, each_second(30, running=4.0))
    summary = summarize(load_run(path))
    assert summary.window is None
    assert summary.server_side.samples == 11  # 0 to 10 s, of 10.75
    assert summary.server_side.running_mean == 4


def test_a_run_in_which_nothing_was_sent_has_no_server_side(tmp_path: Path) -> None:
    path = write_run(tmp_path, [], made_info([], status="failed", num_requests=5), name="nothing")
    write_server_rows(path, each_second(5, running=0.0))
    side = summarize(load_run(path)).server_side
    assert side.running_mean is None
    assert set(side.absent) >= set(FROM_ROWS)
