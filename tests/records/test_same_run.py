"""Which runs measure the same: repeats of one level, and runs that need not be made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.same_run import JUDGED_AND_WATCHED, SETTINGS, RunKey
from vllm_bench.scenario.scenario import KNOWN_KEYS
from vllm_bench.summary.levels import Series, series_of
from vllm_bench.summary.summary import sorted_summaries

from tests.support.made_runs import made_info, made_record, summary_of

# A key that isn't told of here is a question: does another value of it make requests differ?
NEITHER = {
    *("description", "seed", "concurrencies", "request_rates", "speed", "repeats"),
    *("max_tokens_field", "api_key_env", "tls_verify", "tls_ca"),
}


def series(folder: Path, *runs: dict[str, Any]) -> list[Series]:
    """Return what runs of one scenario at one load make, each with settings of its own."""
    found = []
    for number, changes in enumerate(runs):
        records = [made_record(i, run_id=f"r{number}") for i in range(8)]
        found.append(summary_of(folder, records, **changes))
    return series_of(sorted_summaries(found))


@pytest.mark.parametrize(
    "settings",
    [
        {"telemetry": True},
        {"telemetry": True, "telemetry_hz": 1.0, "telemetry_gpus": [0]},
        {"slo": {"ttft_ms": {"p99": 1.0}}},
        {"slo_tiers": {"batch": {"requests_per_s": {"min": 1.0}}}},
        {"gpu_hour_price": 2.5},
        {"seed": 9},
        {"api_key_env": "OTHER_KEY"},
        {"tls_verify": False},
    ],
    ids=str,
)
def test_a_repeat_that_is_only_watched_or_judged_otherwise_stays_in_its_level(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    (found,) = series(tmp_path, {}, {"scenario": settings})
    assert [len(level.runs) for level in found.levels] == [2]


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": {"max_new_tokens": 7}},
        {"scenario": {"warmup_requests": 3}},
        {"scenario": {"timeout_total_s": 5.0}},
        {"server": {"version": "0.33.0"}},
        {"server": {"max_model_len": 4096}},
        {"server": {"system_fingerprint": "another"}},
    ],
    ids=str,
)
def test_what_makes_requests_or_server_differ_is_no_repeat(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert len(series(tmp_path, {}, changes)) == 2


def test_every_setting_has_its_place() -> None:
    assert sorted([*SETTINGS, *JUDGED_AND_WATCHED, *NEITHER]) == sorted(KNOWN_KEYS)


def key(**scenario: Any) -> RunKey | None:
    return RunKey.of(made_info([made_record()], scenario=scenario))


def test_a_run_of_a_version_with_fewer_objectives_is_taken_for_what_it_is() -> None:
    earlier = {"preset": None, "ttft_ms": {"p99": 1.0}, "success_rate": None}
    now = {**earlier, "output_tokens_per_s": None, "requests_per_s": None}
    assert key(slo=earlier) == key(slo=now, slo_tiers=None)
    assert key(slo=earlier) != key(slo={**now, "requests_per_s": {"min": 1.0}})
    assert key(slo=earlier) != key(slo=earlier, slo_tiers={"a": earlier})
