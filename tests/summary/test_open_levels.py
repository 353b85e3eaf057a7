"""Levels of request rates: the knee, capacity, stability and repeats, as of streams."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest
from vllm_bench.figures.digits import interval_words, short
from vllm_bench.records.row import to_csv
from vllm_bench.scenario.load import Load
from vllm_bench.summary.capacity import capacity
from vllm_bench.summary.levels import Level, Series, series_of
from vllm_bench.summary.stability import find_knee, stability
from vllm_bench.summary.summary import RunSummary, sorted_summaries
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.tables.level_lines import objective_lines, repeat_lines
from vllm_bench.tables.markdown import to_markdown
from vllm_bench.verdict.verdict import Verdict

from tests.support.made_runs import made_info, made_record, summary_of, summed
from tests.support.open_runs import due_times, served

SLO = {"ttft_ms": {"p95": 1000.0}}
SLOTS = 8  # a second each: 8 requests/s at most


def run_at(folder, rate, *, run_id=None, count=400, seed=0, **changes) -> RunSummary:
    """A run of a rate on a server of 8 requests/s."""
    due = due_times("poisson", rate, count, seed=seed)
    name = run_id or f"rate-{rate:g}-{seed}"
    records = list(served(due, rate, slots=SLOTS, service_s=1.0, run_id=name))
    scenario = {"slo": SLO, "request_rates": [rate], **changes.pop("scenario", {})}
    info = made_info(records, scenario=scenario, **changes)
    return summed(folder, records, info)


def series_at(folder, *rates) -> Series:
    (series,) = series_of(sorted_summaries([run_at(folder, rate) for rate in rates]))
    return series


def without_doubts(series: Series) -> Series:
    """The same levels, whatever the verdict says about runs that are past the server's capacity."""
    kept = [[dataclasses.replace(r, verdict=Verdict(())) for r in lv.runs] for lv in series.levels]
    return Series(tuple(Level(tuple(runs)) for runs in kept))


def test_levels_are_one_series_by_rising_rate(tmp_path):
    series = series_at(tmp_path, 16.0, 2.0, 8.0)
    assert [level.load for level in series.levels] == [
        Load("requests/s", 2.0),
        Load("requests/s", 8.0),
        Load("requests/s", 16.0),
    ]


def test_throughput_is_used_up_where_the_server_is(tmp_path):
    series = without_doubts(series_at(tmp_path, 2.0, 4.0, 8.0, 16.0, 32.0))
    knee = find_knee(series.levels)
    assert knee is not None
    assert (knee.load.value, knee.next_load.value) == (8.0, 16.0)
    assert knee.gain == pytest.approx(0.0, abs=0.1)


def test_below_its_capacity_a_server_has_no_knee(tmp_path):
    assert find_knee(series_at(tmp_path, 1.0, 2.0, 4.0).levels) is None


def test_levels_that_chance_brought_together_make_no_knee(tmp_path):
    # Asked for 4 and 5, but the schedules came out at 4.4 and 4.5: so did throughput.
    def of(rate, realised, output):
        run = run_at(tmp_path, rate, plan={"realised_rate": realised})
        assert run.steady is not None
        return dataclasses.replace(
            run, steady=dataclasses.replace(run.steady, output_tokens=output * run.steady.span_s)
        )

    chance = series_of([of(4.0, 4.4, 88.0), of(5.0, 4.5, 90.0)])
    assert find_knee(chance[0].levels) is None


def test_objectives_hold_up_to_a_rate_with_the_goodput_of_each_level(tmp_path):
    series = without_doubts(series_at(tmp_path, 2.0, 4.0, 16.0))
    found = capacity(series.levels)
    assert found is not None
    assert (found.met, found.beyond) == (series.levels[1], series.levels[2])
    heads = [line for line in objective_lines(series) if "requests met every objective" in line]
    assert [line.split(" ")[0] for line in heads] == ["2", "4", "16"]
    assert all("goodput" in line for line in heads)
    good, best = (level.attainment.goodput_per_s for level in series.levels[1:])
    assert good == pytest.approx(4.0, rel=0.1)
    assert best < good  # past the capacity more load is less goodput


def test_a_lowest_level_that_is_invalid_says_why_it_does_not_count(tmp_path):
    records = [
        made_record(i, request_rate=8.0, send_lag_ms=50.0, run_id="late") for i in range(400)
    ]
    info = made_info(records, scenario={"slo": SLO})
    late = summed(tmp_path, records, info)
    found = capacity(series_of([late])[0].levels)
    assert found is not None
    assert found.met is None
    assert found.beyond is not None
    assert found.beyond.invalid is not None
    assert "send_lag" in found.beyond.invalid
    assert found.beyond.invalid in found.words


def test_only_the_invalid_runs_are_called_so_and_only_by_what_made_them(tmp_path):
    def run(name, **changes):
        records = [made_record(i, request_rate=8.0, run_id=name, **changes) for i in range(400)]
        # That all are SUSPECT, another model answered, is no reason why one is INVALID.
        info = made_info(records, scenario={"slo": SLO}, server={"replied_as": {"tiny": 400}})
        return summed(tmp_path, records, info)

    runs = [run("a"), run("b", send_lag_ms=50.0), run("c")]
    assert [r.verdict.level for r in runs] == ["SUSPECT", "INVALID", "SUSPECT"]
    (series,) = series_of(sorted_summaries(runs))
    found = capacity(series.levels)
    assert found is not None
    (level,) = series.levels
    assert level.invalid == "1 of its 3 runs is INVALID (send_lag)"
    assert level.verdict == "SUSPECT"
    assert level.attainment is not None
    assert level.attainment.arrivals == 782  # of the two that are believed: those in their windows
    assert found.met is level
    assert any(level.invalid in line for line in objective_lines(series))
    twice = str(Level(level.runs[1:2] * 2).invalid)
    assert "2 runs are" in twice
    assert twice.endswith("(send_lag)")


def test_ttft_over_load_is_from_the_schedule(tmp_path):
    series = without_doubts(series_at(tmp_path, 2.0, 16.0))
    found = stability(series.levels)
    assert found is not None
    assert [level.state for level in found.levels] == ["baseline", "overloaded"]
    (run,) = series.levels[1].runs
    assert found.levels[1].p50_ms == pytest.approx(run.percentile("ttft_from_schedule_ms", 50))


def test_three_repeats_give_an_interval_with_every_value_beside_it(tmp_path):
    runs = [
        run_at(
            tmp_path,
            6.0,
            seed=k,
            repeat=k + 1,
            seeds={"prompts": k},
            prompts={"sha256": f"{k}" * 64},
            scenario={"repeats": 3},
        )
        for k in range(3)
    ]
    (series,) = series_of(sorted_summaries(runs))
    (level,) = series.levels
    assert len(level.runs) == 3
    values = [run.percentile("ttft_from_schedule_ms", 95) for run in level.runs]
    assert len(set(values)) == 3  # three schedules
    rows = [run.samples["ttft_from_schedule_ms"].values for run in level.runs]
    p95 = float(np.percentile(np.concatenate(rows), 95))
    interval = level.distribution("ttft_from_schedule_ms").interval(95)
    (line,) = [x for x in repeat_lines(series) if "p95" in x]
    assert all(short(figure) in line for figure in (p95, *values))
    assert interval_words(interval) in line
    assert " 3 runs (" in line
    assert "output" in repeat_lines(series)[-1]
    (cells,) = csv.DictReader(io.StringIO(to_csv(LEVEL_COLUMNS, level_rows([series])).decode()))
    assert (cells["load"], cells["load_unit"], cells["runs"]) == ("6.0000", "requests/s", "3")
    assert float(cells["ttft_from_schedule_p95_ms_low"]) == pytest.approx(interval.low, abs=1e-3)
    assert len(cells["ttft_from_schedule_p95_ms_runs"].split()) == 3


def test_levels_that_drew_other_prompts_are_levels_all_the_same(tmp_path):
    # With duration_s each rate has its own count, and so its own prompts of the set.
    runs = [
        run_at(
            tmp_path,
            rate,
            count=count,
            prompts={"sha256": str(count)},
            scenario={"num_requests": None, "duration_s": 30.0},
        )
        for rate, count in ((2.0, 60), (4.0, 120))
    ]
    assert len(series_of(sorted_summaries(runs))) == 1


def test_the_same_draw_of_other_prompts_is_other_data(tmp_path):
    runs = [
        run_at(tmp_path, rate, run_id=f"{rate:g}{data}", prompts={"sha256": data})
        for rate in (2.0, 4.0)
        for data in ("old", "new")
    ]
    found = [
        [run.run_id for level in series.levels for run in level.runs]
        for series in series_of(sorted_summaries(runs))
    ]
    assert sorted(found) == [["2new", "4new"], ["2old", "4old"]]


def test_closed_and_open_loops_of_one_name_have_a_table_each(tmp_path):
    records = [made_record(i, run_id="closed") for i in range(100)]
    closed = summary_of(tmp_path, records)
    text = to_markdown(sorted_summaries([run_at(tmp_path, 4.0), closed]))
    assert "| requests/s | verdict |" in text
    assert "| streams | verdict |" in text
