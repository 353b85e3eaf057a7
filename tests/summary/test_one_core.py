"""What one sending core takes: which rate holds, which is tried next, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.one_core import (
    FIRST_PER_S,
    HEADINGS,
    CoreLevel,
    core_level,
    judged,
    median_level,
    next_rate,
    to_markdown,
)
from vllm_bench.summary.summary import summarize

from tests.support.made_runs import made_info, made_record, write_run

GOOD = CoreLevel(FIRST_PER_S, FIRST_PER_S, 250, 0.2, 0.3, 0.0, 0.0, 20.0, 0.5, 0.0)


def level(asked: float, **changes: float | None) -> CoreLevel:
    return dataclasses.replace(GOOD, **{"asked_per_s": asked, "sent_per_s": asked, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"late_p99_ms": 1.1},
        {"first_late_p99_ms": 1.1},
        {"merged_percent": 0.11},
        {"first_merged_percent": 0.11},
        {"late_p99_ms": None},
        {"merged_percent": None},
    ],
)
def test_a_rate_holds_only_if_nearly_every_read_is_soon_and_of_one_event(
    changes: dict[str, float | None],
) -> None:
    assert GOOD.holds
    assert not level(FIRST_PER_S, **changes).holds


@pytest.mark.parametrize("changes", [{"sent_per_s": 80_000.0}, {"bunched_percent": 0.05}])
def test_a_source_that_lags_is_the_limit(changes: dict[str, float | None]) -> None:
    assert not level(100_000).source_ended
    assert level(100_000, **changes).source_ended


def test_rates_double_until_one_fails_and_go_once_half_way_back() -> None:
    levels: list[CoreLevel] = []
    tried = []
    while (rate := next_rate(levels)) is not None:
        tried.append(rate)
        levels.append(level(rate, late_p99_ms=4.0 if rate > 60_000 else 0.5))
    assert tried == [12_500, 25_000, 50_000, 100_000, 75_000]
    assert judged(levels).startswith("One sending core takes 50,000 events/s")
    assert "not 75,000" in judged(levels)


def test_no_rate_is_tried_after_the_first_failed() -> None:
    assert next_rate([level(FIRST_PER_S, late_p99_ms=4.0)]) is None
    assert "less than 12,500" in judged([level(FIRST_PER_S, late_p99_ms=4.0)])


def test_where_the_source_ended_nothing_is_said_about_the_client() -> None:
    levels = [level(50_000), level(100_000, sent_per_s=70_000.0)]
    assert "at 100,000 the source was the limit" in judged(levels)
    assert next_rate(levels) == 75_000


def test_figures_are_of_the_runs_json_and_the_sources_record(tmp_path: Path) -> None:
    records = [made_record(i) for i in range(20)]
    late = {"reads": 99, "p50": 0.1, "p99": 0.4, "max": 3.0}
    info = made_info(records)
    health = {
        **info.client_health,
        "clock": "kernel",
        "clock_error_ms": 0.0,
        "lateness_ms": {"ttft": {**late, "p99": 0.7}, "gaps": late},
        "token_reads": 1000,
        "merged_reads": 2,
        "first_reads": 20,
        "merged_first_reads": 1,
    }
    path = write_run(tmp_path, records, dataclasses.replace(info, client_health=health))
    sent = [
        {"events": 900, "late_p99_us": 400, "bunched": 3},
        {"events": 100, "late_p99_us": 900, "bunched": 0},
    ]
    found = core_level(summarize(load_run(path)), 5000.0, sent)
    assert (found.first_late_p99_ms, found.late_p99_ms) == (0.7, 0.4)
    assert found.merged_percent == pytest.approx(0.2)
    assert found.first_merged_percent == pytest.approx(5)
    assert found.source_late_p99_ms == pytest.approx(0.9)
    assert found.bunched_percent == pytest.approx(0.3)


def test_medians_and_the_table() -> None:
    found = median_level([level(9, late_p99_ms=ms) for ms in (3.0, 1.0, 2.0)])
    assert found.late_p99_ms == 2
    assert median_level([level(9), level(9, late_p99_ms=None)]).late_p99_ms is None
    table = to_markdown([level(12_500), level(25_000)]).splitlines()
    assert {line.count("|") for line in table} == {len(HEADINGS) + 1}
