"""What a scenario may say of its objectives, and MLPerf's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from vllm_bench.scenario.objectives import PRESETS, Slo, percentile_of
from vllm_bench.scenario.scenario import Scenario, ScenarioError, load_scenarios

CHAT = {"model": "tiny", "max_new_tokens": 8, "concurrencies": [1], "num_requests": 4}


def scenario_with(tmp_path: Path, slo: object) -> Scenario:
    path = tmp_path / "scenarios.yaml"
    path.write_text(yaml.safe_dump({"scenarios": {"chat": {**CHAT, "slo": slo}}}))
    return load_scenarios(path)["chat"]


def test_objectives_are_kept_with_the_runs_settings(tmp_path: Path) -> None:
    slo = {"ttft_ms": {"p50": 100, "p99.9": 500}, "max_gap_ms": {"p99": 400}, "success_rate": 0.999}
    slo |= {"output_tokens_per_s": {"min": 2000}, "requests_per_s": {"min": 0.5}}
    masked = scenario_with(tmp_path, slo).masked()["slo"]
    assert {key: value for key, value in masked.items() if value is not None} == slo
    assert scenario_with(tmp_path, None).masked()["slo"] is None


# loadgen/mlperf.conf of mlcommons/inference, Server.ttft_latency and Server.tpot_latency
@pytest.mark.parametrize(
    ("name", "ttft_ms", "tpot_ms"),
    [
        ("mlperf-llama2-70b", 2000, 200),
        ("mlperf-llama2-70b-interactive", 450, 40),
        ("mlperf-mixtral-8x7b", 2000, 200),
        ("mlperf-llama3.1-8b", 2000, 100),
        ("mlperf-llama3.1-8b-interactive", 500, 30),
        ("mlperf-llama3.1-405b", 6000, 175),
        ("mlperf-llama3.1-405b-interactive", 4500, 80),
        ("mlperf-deepseek-r1", 2000, 80),
        ("mlperf-deepseek-r1-interactive", 1500, 15),
    ],
)
def test_a_preset_brings_mlperfs_limits_at_p99(name: str, ttft_ms: float, tpot_ms: float) -> None:
    found = Slo.model_validate({"preset": name})
    assert (found.ttft_ms, found.tpot_ms) == ({"p99": ttft_ms}, {"p99": tpot_ms})
    assert name in PRESETS


def test_what_stands_beside_a_preset_stands_over_it(tmp_path: Path) -> None:
    found = scenario_with(
        tmp_path, {"preset": "mlperf-llama2-70b", "tpot_ms": {"p95": 50}, "success_rate": 1}
    ).slo
    assert found is not None
    assert (found.ttft_ms, found.tpot_ms) == ({"p99": 2000}, {"p95": 50})
    assert found.success_rate == 1


@pytest.mark.parametrize(
    ("slo", "complaint"),
    [
        ({"tttf_ms": {"p99": 1}}, "slo: unknown key tttf_ms; did you mean ttft_ms?"),
        ({"goodput": 1}, "slo: unknown key goodput; known keys: preset, ttft_ms"),
        ({"preset": "mlperf-llama2-70"}, "did you mean mlperf-llama2-70b?"),
        ({"preset": "slow"}, "unknown preset slow; known presets: mlperf-llama2-70b,"),
        ({"ttft_ms": {"99": 1}}, "slo.ttft_ms: '99' isn't a percentile: write p50"),
        ({"ttft_ms": {"p0": 1}}, "'p0' isn't a percentile"),
        ({"ttft_ms": {"p100": 1}}, "'p100' isn't a percentile"),
        ({"ttft_ms": {}}, "slo.ttft_ms: must name a percentile"),
        ({"ttft_ms": {"p99": 0}}, "slo.ttft_ms.p99: must be above 0"),
        ({"ttft_ms": {"p99": float("nan")}}, "slo.ttft_ms.p99"),
        ({"ttft_ms": 500}, "slo.ttft_ms: must be a mapping, as in {p99: 500}"),
        ({"success_rate": 99}, "slo.success_rate: must be at most 1"),
        ({"requests_per_s": 20}, "slo.requests_per_s: must be a mapping with min alone"),
        ({"requests_per_s": {}}, "slo.requests_per_s: must be a mapping with min alone"),
        ({"requests_per_s": {"max": 2}}, "as in {min: 2000}"),
        ({"requests_per_s": {"min": 2, "max": 3}}, "must be a mapping with min alone"),
        ({"requests_per_s": {1: 2}}, "slo.requests_per_s: must be a mapping with min alone"),
        ({"requests_per_s": {"min": 0}}, "slo.requests_per_s.min: must be above 0"),
        ({"requests_per_s": {"min": True}}, "slo.requests_per_s.min: must be a number"),
        ({"requests_per_s": {"min": None}}, "slo.requests_per_s.min: must be a number"),
        ({"requests_per_s": {"min": float("inf")}}, "slo.requests_per_s.min: must be at most"),
        ({"output_token_per_s": {"min": 2}}, "did you mean output_tokens_per_s?"),
        ({}, "slo: must name an objective"),
        ({"preset": None}, "slo: must name an objective"),
        ("fast", "slo: must be a mapping, as in {ttft_ms: {p99: 500}}"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, slo: Any, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario_with(tmp_path, slo)
    text = str(caught.value)
    assert text.partition("chat: ")[2].startswith("slo")
    assert complaint in text
    assert "\n" not in text


def test_percentiles_may_have_decimals() -> None:
    assert percentile_of("p99.95") == 99.95
    with pytest.raises(ValueError, match="p-5"):
        percentile_of("p-5")


TIERS = {"interactive": {"ttft_ms": {"p99": 300}}, "b-1": {"preset": "mlperf-llama2-70b"}}


def with_tiers(tmp_path: Path, tiers: object) -> Scenario:
    path = tmp_path / "scenarios.yaml"
    path.write_text(yaml.safe_dump({"scenarios": {"chat": {**CHAT, "slo_tiers": tiers}}}))
    return load_scenarios(path)["chat"]


def test_tiers_are_sets_of_objectives_by_name(tmp_path: Path) -> None:
    found = with_tiers(tmp_path, TIERS).slo_tiers
    assert found is not None
    assert {name: slo.ttft_ms for name, slo in found.items()} == {
        "interactive": {"p99": 300},
        "b-1": {"p99": 2000},
    }
    assert with_tiers(tmp_path, None).slo_tiers is None


@pytest.mark.parametrize(
    ("tiers", "complaint"),
    [
        ({}, "slo_tiers: must name a tier"),
        (5, "slo_tiers: must be a mapping, as in {interactive: {ttft_ms: {p99: 300}}}"),
        ([TIERS], "slo_tiers: must be a mapping"),
        ({1: {"success_rate": 1}}, "slo_tiers.1: isn't a name: put it in quotes"),
        ({"": {"success_rate": 1}}, "slo_tiers:  isn't a tier's name"),
        ({"1a": {"success_rate": 1}}, "slo_tiers: 1a isn't a tier's name"),
        ({"a b": {"success_rate": 1}}, "slo_tiers: a b isn't a tier's name"),
        ({"a.b": {"success_rate": 1}}, "slo_tiers: a.b isn't a tier's name"),
        ({"a" * 33: {"success_rate": 1}}, "isn't a tier's name"),
        ({"a\x1b[31m": {"success_rate": 1}}, "slo_tiers: 'a\\x1b[31m' isn't a tier's name"),
        ({"a": None}, "slo_tiers.a: must be a mapping, as in {ttft_ms: {p99: 500}}"),
        ({"a": {}}, "slo_tiers.a: must name an objective"),
        ({"a": {"ttft": {"p99": 1}}}, "slo_tiers.a: unknown key ttft; did you mean ttft_ms?"),
        ({"a": {"ttft_ms": 500}}, "slo_tiers.a.ttft_ms: must be a mapping, as in {p99: 500}"),
        ({"a": {"ttft_ms": {99: 1}}}, "slo_tiers.a.ttft_ms.99: isn't a percentile"),
        ({"a": {"ttft_ms": {"p99": True}}}, "slo_tiers.a.ttft_ms.p99: must be a number"),
    ],
)
def test_a_mistake_in_a_tier_is_one_line_that_names_it(
    tmp_path: Path, tiers: Any, complaint: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        with_tiers(tmp_path, tiers)
    assert complaint in str(caught.value)
    assert str(caught.value).isprintable()
