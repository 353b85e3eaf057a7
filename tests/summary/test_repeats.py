"""Which runs are repeats, which of them count, and when they are no repeats after all."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.records.row import to_csv
from vllm_bench.records.run_info import ClockPair
from vllm_bench.stats.batches import Interval
from vllm_bench.summary.levels import Level, Series, series_of
from vllm_bench.summary.stability import find_knee
from vllm_bench.summary.summary import RunSummary, sorted_summaries
from vllm_bench.tables.document import to_json
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.tables.level_lines import exit_code, objective_lines, repeat_lines, stability_lines
from vllm_bench.tables.text_tables import population, unbounded

from tests.support.made_runs import (
    NOON_S,
    failed_record,
    made_info,
    made_record,
    summary_of,
    summed,
)
from tests.support.reading import numbers

INFO = ("scenario", "server", "plan", "repeat", "clock_start")
SLO = {"slo": {"ttft_ms": {"p50": 200.0}}}


def run(folder: Path, run_id: str, *, bad: int = 0, **changes: Any) -> RunSummary:
    """A run of 200 requests, `bad` of them failed: INVALID from a few percent on."""
    folder.mkdir(parents=True, exist_ok=True)
    info = {k: changes.pop(k) for k in INFO if k in changes}
    fields = {"run_id": run_id, **changes}
    records = [
        failed_record(i, run_id=run_id, concurrency=changes.get("concurrency", 4))
        if i % 10 < bad
        else made_record(i, **fields)
        for i in range(200)
    ]
    settings = {"num_requests": 200, **info.pop("scenario", {})}
    made = made_info(records, scenario=settings, **info)
    return summed(folder, records, made)


def one_level(*runs: RunSummary) -> Level:
    (series,) = series_of(sorted_summaries(list(runs)))
    (level,) = series.levels
    return level


def with_interval(summary: RunSummary, low: float, high: float) -> RunSummary:
    """The same run, its median TTFT's interval from low to high."""
    ttft = summary.distributions["ttft_ms"]
    changed = dataclasses.replace(ttft, intervals={50.0: Interval(low, high)})
    return dataclasses.replace(summary, distributions={**summary.distributions, "ttft_ms": changed})


def cells(*runs: RunSummary) -> dict[str, str]:
    """The only row of summary_levels.csv."""
    text = to_csv(LEVEL_COLUMNS, level_rows(series_of(sorted_summaries(list(runs))))).decode()
    (row,) = csv.DictReader(io.StringIO(text))
    return row


# ---- which runs are repeats ----


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"scenario": {"label": "seqs16"}}, {"scenario": {"label": "seqs64"}}),
        ({"scenario": {"label": "seqs16"}}, {}),
        ({"scenario": {"start": "staggered"}}, {"scenario": {"start": "together"}}),
        ({"server": {"system_fingerprint": "a"}}, {"server": {"system_fingerprint": "b"}}),
        ({"server": {"cache_config": {"num_gpu_blocks": 9}}}, {"server": {"cache_config": {}}}),
        ({"server": {"max_model_len": 4096}}, {"server": {"max_model_len": 8192}}),
        ({"token_events": 20}, {"token_events": 3}),  # --stream-interval 1 and 8
        ({"token_events": 20}, {"token_events": 11}),  # ... and 2
    ],
)
def test_two_settings_of_one_server_are_two_series(tmp_path, one, other):
    found = [run(tmp_path, "a", **one), run(tmp_path, "b", **other)]
    assert len(series_of(sorted_summaries(found))) == 2


def test_runs_of_two_folders_are_no_repeats(tmp_path):
    found = [run(tmp_path / folder, "a") for folder in ("one", "two")]
    assert len(series_of(sorted_summaries(found))) == 2


def test_repeats_within_one_second_stand_in_the_order_in_which_they_ran(tmp_path):
    began = {"z": 0.1, "a": 0.2, "m": 0.3}
    runs = [
        run(tmp_path, name, clock_start=ClockPair(wall_s=NOON_S + after_s, monotonic_ns=0))
        for name, after_s in began.items()
    ]
    assert [one.run_id for one in sorted_summaries(runs[::-1])] == list(began)


def test_a_few_merged_tokens_more_at_a_higher_load_are_the_same_server(tmp_path):
    events = {4: 20, 8: 17, 16: 14, 32: 10}  # 1 to 2 tokens a chunk, without a step
    found = [run(tmp_path, f"r{n}", concurrency=n, token_events=some) for n, some in events.items()]
    (series,) = series_of(sorted_summaries(found))
    assert [level.load.value for level in series.levels] == [4, 8, 16, 32]


def test_a_closed_loop_by_time_sends_what_it_can_and_is_a_repeat_all_the_same(tmp_path):
    timed = {"num_requests": None, "duration_s": 50.0}
    runs = []
    for name, count in (("a", 200), ("b", 190)):
        records = [made_record(i, run_id=name) for i in range(count)]
        info = made_info(records, scenario=timed, prompts={"sha256": "drawn before the run"})
        runs.append(summed(tmp_path, records, info))
    assert len(one_level(*runs).runs) == 2


# ---- which of them count ----


def test_only_runs_that_are_believed_enter_figures(tmp_path):
    level = one_level(
        run(tmp_path, "a", ttft_ms=100.0),
        run(tmp_path, "b", ttft_ms=120.0, bad=3),
        run(tmp_path, "c", ttft_ms=110.0),
    )
    assert [r.run_id for r in level.believed] == ["a", "c"]
    over = level.over_rows("ttft_ms", 50)
    assert over is not None
    assert over.values == (100, 110)
    assert over.centre == 105  # of the rows of both
    rates = level.over_repeats(lambda r: r.steady and r.steady.requests_per_s)
    assert rates is not None
    assert len(rates.values) == 2
    assert level.verdict != "INVALID"
    assert level.invalid is not None
    assert "1 of its 3 runs is INVALID (errors)" in level.invalid


def test_a_level_of_invalid_runs_alone_has_no_figures(tmp_path):
    runs = [run(tmp_path, name, bad=3, scenario=SLO) for name in "ab"]
    level = one_level(*runs)
    assert level.over_rows("ttft_ms", 50) is None
    assert level.percentile("ttft_ms", 50) is None
    assert level.attainment is None
    row = cells(*runs)
    assert (row["verdict"], row["runs"], row["runs_counted"]) == ("INVALID", "2", "0")
    figures = [name for name in row if "_ms" in name or "per_s" in name or "attain" in name]
    assert figures
    assert {row[name] for name in figures} == {""}
    (line,) = objective_lines(Series((level,)))
    assert "INVALID (errors)" in line


def test_nothing_invalid_makes_a_knee(tmp_path):
    times = {4: 1000.0, 8: 2000.0, 16: 4000.0}
    runs = [_full(tmp_path, n, latency_ms=ms) for n, ms in times.items()]
    (series,) = series_of(sorted_summaries(runs))
    knee = find_knee(series.levels)
    assert knee is not None
    assert knee.load.value == 4
    grave = run(tmp_path / "bad", "bad", bad=3).verdict
    bad = [dataclasses.replace(r, verdict=grave) for r in runs[1:]]
    (series,) = series_of(sorted_summaries([runs[0], *bad]))
    assert find_knee(series.levels) is None


def _full(folder: Path, streams: int, latency_ms: float) -> RunSummary:
    """A run of a server that answers 4 requests a second, however many wait."""
    records = []
    for i in range(200):
        turn, place = divmod(i, streams)
        sent_s = latency_ms / 1000 * (turn + place / streams)
        fields = {"run_id": f"full{streams}", "concurrency": streams, "t_sent_s": sent_s}
        records.append(made_record(i, latency_ms=latency_ms, **fields))
    info = made_info(records, scenario={"num_requests": 200})
    return summed(folder, records, info)


# ---- when repeats disagree ----


def test_repeats_that_lie_apart_have_no_mean_and_say_so_everywhere(tmp_path):
    runs = [run(tmp_path, "a", scenario=SLO), run(tmp_path, "b", ttft_ms=180.0, scenario=SLO)]
    level = one_level(*runs)
    assert level.disagree is not None
    assert level.disagree.startswith("repeats_disagree")
    assert numbers(level.disagree) == [50, 100, 180]  # p50 100 to 180 ms
    assert level.over_repeats(lambda r: 1.0) is None
    assert level.percentile("ttft_ms", 50) is None
    assert (level.verdict, level.attainment) == ("INVALID", None)
    assert "repeats_disagree" in level.reasons
    row = cells(*runs)
    assert (row["verdict"], row["runs_counted"], row["ttft_p50_ms"]) == ("INVALID", "0", "")
    assert row["disagree"] == level.disagree
    assert row["ttft_p50_ms_runs"] == "100.0000 180.0000"
    series = Series((level,))
    assert any("repeats_disagree" in line for line in repeat_lines(series))
    assert any("repeats_disagree" in line for line in objective_lines(series))
    (written,) = json.loads(to_json(runs))["levels"]
    assert written["disagree"] == level.disagree
    assert exit_code(runs) == 4


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        ({"ttft_ms": 149.0}, False),
        ({"ttft_ms": 151.0}, True),
        ({"latency_ms": 1600.0, "concurrency": 4}, True),
        ({"tpot_ms": 80.0}, True),
        ({"cached_tokens": 20}, False),  # 8 %
        ({"cached_tokens": 30}, True),  # 12 % of what the other computed
    ],
)
def test_each_headline_figure_can_tell(tmp_path, other, apart):
    runs = [
        run(tmp_path, "a", cached_tokens=0),
        run(tmp_path, "b", **{"cached_tokens": 0, **other}),
    ]
    assert bool(one_level(*runs).disagree) == apart


@pytest.mark.parametrize(
    ("low", "high", "apart"),
    [
        ((90.0, 150.0), (160.0, 210.0), True),
        ((90.0, 185.0), (160.0, 210.0), False),  # the lower one's interval holds the higher
        ((90.0, 150.0), (95.0, 210.0), False),
        ((90.0, math.inf), (160.0, 210.0), False),  # without an upper bound nothing is outside
    ],
)
def test_repeats_near_saturation_may_differ_by_their_intervals(tmp_path, low, high, apart):
    one = with_interval(run(tmp_path, "a"), *low)
    other = with_interval(run(tmp_path, "b", ttft_ms=180.0), *high)
    assert bool(one_level(one, other).disagree) == apart


def test_an_invalid_run_that_differs_is_left_out_and_disagrees_with_nobody(tmp_path):
    level = one_level(run(tmp_path, "a"), run(tmp_path, "b", ttft_ms=300.0, bad=3))
    assert level.disagree is None


# ---- what CI is told ----


def test_one_run_that_missed_is_a_failure_however_good_its_repeats_are(tmp_path):
    slo = {"slo": {"ttft_ms": {"p50": 120.0}}}
    runs = [
        run(tmp_path, f"r{n}", ttft_ms=t, scenario=slo) for n, t in enumerate((100.0, 130.0, 100.0))
    ]
    assert [r.attainment.word for r in runs if r.attainment] == ["met", "missed", "met"]
    assert one_level(*runs).disagree is None
    assert exit_code(runs) == 3
    assert exit_code([runs[0], runs[2]]) == 0


def test_what_is_not_shown_is_no_failure_and_is_said(tmp_path):
    found = run(tmp_path, "a", scenario={"slo": {"ttft_ms": {"p99": 120.0}}})
    assert found.attainment is not None
    assert found.attainment.word == "not shown"
    assert exit_code([found]) == 0
    (line, _) = objective_lines(series_of([found])[0])
    assert "not shown" in line


# ---- what the figures are of ----


def test_the_population_stands_beside_the_figures(tmp_path):
    long = run(tmp_path, "a")
    (series,) = series_of([long])
    (line,) = population(series)
    assert numbers(line) == [long.counted, 200]
    assert long.counted < 200
    records = [made_record(i, run_id="b", concurrency=8) for i in range(8)]
    short = summary_of(tmp_path, records)
    (series,) = series_of([short])
    (line,) = population(series)
    assert "no steady window" in line
    assert numbers(line) == [8, 8]  # streams, requests


def test_an_interval_without_an_end_says_how_many_requests_would_give_one(tmp_path):
    found = run(tmp_path, "a")
    ttft = dataclasses.replace(found.distributions["ttft_ms"], needed={95.0: 1234})
    changed = dataclasses.replace(found, distributions={**found.distributions, "ttft_ms": ttft})
    (line,) = unbounded(series_of([changed])[0])
    assert numbers(line)[:2] == [95, 1234]


def test_hits_of_the_prefix_cache_are_told_level_by_level(tmp_path):
    plan = {"trace_shared_share": 0.62}
    runs = [
        run(tmp_path, f"r{n}", concurrency=n, cached_tokens=cached, plan=plan)
        for n, cached in ((4, 25), (8, 200))
    ]
    (series,) = series_of(sorted_summaries(runs))
    assert [level.hit_rate for level in series.levels] == pytest.approx([0.1, 0.8])
    *_, line = stability_lines(series)
    assert numbers(line) == [10, 4, 80, 8, 62]


def test_a_pooled_percentile_needs_its_samples_over_all_runs(tmp_path):
    runs = [run(tmp_path, name, ttft_ms=100.0) for name in "ab"]
    assert all(r.percentile("ttft_ms", 99) is None for r in runs)  # 200 each
    level = one_level(*runs)
    rows = np.concatenate([r.samples["ttft_ms"].values for r in runs])
    assert level.percentile("ttft_ms", 99) == pytest.approx(np.percentile(rows, 99))
