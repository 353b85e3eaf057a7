"""The summary's figures are those that anybody gets from the CSV by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from vllm_bench.figures.metrics import STREAMED
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import COLUMNS, RecordsError
from vllm_bench.records.row import to_csv
from vllm_bench.records.run_info import write_run_info
from vllm_bench.summary.summary import sorted_summaries, summarize
from vllm_bench.tables.columns import SUMMARY_COLUMNS

from tests.support.made_runs import (
    failed_record,
    made_info,
    made_record,
    summary_of,
    summed,
    whole_reply_record,
    write_run,
)


def mixed_records(count=440, seed=1):
    """Successes of all lengths, every twentieth a failure; five of four streams at once."""
    rng = np.random.default_rng(seed)
    free_s = [0.0] * 4
    for i in range(count):
        stream = int(np.argmin(free_s))
        sent_s = free_s[stream]
        if i % 20 == 0:
            kind = "http_429" if i % 40 else "connect"
            yield failed_record(i, t_sent_s=sent_s, stream_index=stream, error_kind=kind)
            free_s[stream] += 0.005
            continue
        ttft_ms, tpot_ms = float(rng.lognormal(4, 0.5)), float(rng.uniform(5, 20))
        tokens = int(rng.integers(2, 200))
        latency_ms = ttft_ms + tpot_ms * (tokens - 1)
        free_s[stream] += latency_ms / 1000
        yield made_record(
            i,
            t_sent_s=sent_s,
            stream_index=stream,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            latency_ms=latency_ms,
            max_gap_ms=float(rng.uniform(20, 500)),
            completion_tokens=tokens,
            token_events=tokens,
            prompt_tokens=int(rng.integers(50, 500)),
            max_tokens=200,
        )


@pytest.fixture
def mixed(tmp_path):
    """A run of 440 mixed records: its path on disk."""
    records = list(mixed_records())
    return write_run(tmp_path, records, made_info(records))


def row_of(summaries):
    """Return the first row of summary.csv as {column: text}."""
    return next(csv.DictReader(io.StringIO(to_csv(SUMMARY_COLUMNS, summaries).decode())))


def test_the_same_rows_through_pandas_by_hand_give_the_same_figures(mixed):
    row = row_of([summarize(load_run(mixed))])
    everything = pd.read_csv(mixed)
    streams = everything.groupby("stream_index")["t_end_s"]
    begin_s, end_s = streams.first().max(), streams.max().min()
    df = everything[everything["t_sent_s"].ge(begin_s) & everything["t_sent_s"].lt(end_s)]
    ok, all_ok = df[df["error"].isna()], everything[everything["error"].isna()]
    span_s = everything["t_end_s"].max() - everything["t_sent_s"].min()
    by_hand = {
        "requests": len(everything),
        "succeeded": len(all_ok),
        "success_rate": len(all_ok) / len(everything),
        "ttft_n": len(ok),
        "ttft_mean_ms": ok["ttft_ms"].mean(),
        "ttft_p50_ms": ok["ttft_ms"].quantile(0.5),
        "ttft_p95_ms": ok["ttft_ms"].quantile(0.95),
        "ttft_p99_ms": ok["ttft_ms"].quantile(0.99),
        "ttft_max_ms": ok["ttft_ms"].max(),
        "latency_p50_ms": ok["latency_ms"].quantile(0.5),
        "latency_p90_ms": ok["latency_ms"].quantile(0.9),
        "latency_p99_ms": ok["latency_ms"].quantile(0.99),
        "tpot_p50_ms": ok["tpot_ms"].quantile(0.5),
        "tpot_p95_ms": ok["tpot_ms"].quantile(0.95),
        "max_gap_worst_ms": ok["max_gap_ms"].max(),
        "send_lag_p99_ms": df["send_lag_ms"].quantile(0.99),
        "whole_run_s": span_s,
        "whole_run_requests_per_s": len(all_ok) / span_s,
        "whole_run_output_tokens_per_s": all_ok["completion_tokens"].sum() / span_s,
        "prompt_tokens_total": all_ok["prompt_tokens"].sum(),
        "output_tokens_total": all_ok["completion_tokens"].sum(),
        "prompt_tokens_mean": ok["prompt_tokens"].mean(),
        "completion_tokens_min": ok["completion_tokens"].min(),
        "completion_tokens_max": ok["completion_tokens"].max(),
        "in_flight_mean": (everything["t_end_s"] - everything["t_sent_s"]).sum() / span_s,
    }
    found = {name: float(row[name]) for name in by_hand}
    assert found == pytest.approx(by_hand, abs=1e-4)


def test_failures_stay_in_the_count_and_out_of_the_times(mixed):
    summary = summarize(load_run(mixed))
    assert (summary.requests, summary.succeeded) == (440, 418)
    assert {e.kind: e.count for e in summary.errors} == {"http_429": 11, "connect": 11}
    assert "memory" in summary.errors[0].example
    assert summary.counted <= 440 - 8  # each stream's first and last are left out
    assert summary.distributions["send_lag_ms"].n == summary.counted
    failed = summary.counted - summary.distributions["latency_ms"].n
    assert 20 <= failed <= 22


def test_a_percentile_without_the_samples_is_an_empty_cell_beside_its_n(tmp_path):
    records = [made_record(i) for i in range(50)]
    row = row_of([summary_of(tmp_path, records)])
    assert (row["ttft_n"], row["ttft_p50_ms"], row["ttft_p90_ms"]) == ("43", "100.0000", "100.0000")
    assert (row["ttft_p95_ms"], row["ttft_p99_ms"], row["send_lag_p99_ms"]) == ("", "", "")


def test_without_streaming_only_latency_exists_and_the_reason_is_said(tmp_path):
    records = [whole_reply_record(i) for i in range(80)]
    info = made_info(records, scenario={"stream": False})
    summary = summed(tmp_path, records, info)
    assert set(summary.absent) == set(STREAMED)
    (why,) = set(summary.absent.values())
    assert "stream: false" in why
    assert summary.percentile("latency_ms", 95) == pytest.approx(1000)


def test_one_token_replies_have_a_ttft_and_no_tpot(tmp_path):
    one = {"completion_tokens": 1, "token_events": 1, "tpot_ms": None, "max_gap_ms": None}
    records = [made_record(i, latency_ms=100.0, **one) for i in range(10)]
    summary = summary_of(tmp_path, records)
    assert set(summary.absent) == {"tpot_ms", "max_gap_ms", "itl_ms", "chunk_gap_ms"}
    for name in ("itl_ms", "chunk_gap_ms"):
        assert f"tokens/{summary.run_id}.npz" in summary.absent[name]


def test_a_run_in_which_all_failed_has_a_rate_of_zero_and_no_times(tmp_path):
    records = [failed_record(i, t_sent_s=None, send_lag_ms=None) for i in range(10)]
    summary = summary_of(tmp_path, records)
    assert summary.success_rate == 0
    assert summary.throughput is None  # nothing was ever sent
    assert summary.in_flight is None
    assert {"ttft_ms", "send_lag_ms"} <= set(summary.absent)


def test_summaries_stand_by_scenario_level_and_time(tmp_path):
    summaries = []
    for scenario, level in (("b", 8), ("a", 16), ("b", 1)):
        records = [made_record(scenario=scenario, concurrency=level, run_id=f"{scenario}{level}")]
        summaries.append(summed(tmp_path, records))
    assert [s.run_id for s in sorted_summaries(summaries)] == ["a16", "b1", "b8"]


def test_a_run_that_was_killed_before_its_first_row_is_known_by_its_json(tmp_path):
    info = made_info([], status="running", num_requests=50)
    summary = summed(tmp_path, [], info)
    assert (summary.scenario, summary.concurrency, summary.requests) == ("made", 4, 0)
    assert summary.success_rate is None
    assert row_of([summary])["success_rate"] == ""


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [({"t_end_s": ""}, "line 3 has no t_end_s"), ({"run_id": "other"}, "contains 2 runs")],
)
def test_rows_that_make_no_run_are_refused_with_their_place(tmp_path, cells, complaint):
    path = write_run(tmp_path, [made_record(0), made_record(1)])
    # As bench.py ends its lines.
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    rows[1].update(cells)
    with path.open("w") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(RecordsError, match=complaint):
        load_run(path)


def test_a_json_of_the_wrong_shape_is_a_problem_and_the_rows_still_count(tmp_path):
    path = write_run(tmp_path, [made_record()])
    write_run_info(path.with_suffix(".json"), made_info([made_record()], seeds=[1]))
    run = load_run(path)
    assert run.info is not None
    assert run.info.seeds == {}
    (problem,) = run.problems
    assert "seeds" in problem
