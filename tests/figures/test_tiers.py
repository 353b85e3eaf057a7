"""Tiers: several sets of objectives beside `slo`, an attainment each; they judge no run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vllm_bench.figures.attained import Attainment
from vllm_bench.summary.kept import _made, _plain
from vllm_bench.summary.levels import Level
from vllm_bench.summary.summary import RunSummary, _believed
from vllm_bench.tables.level_lines import exit_code
from vllm_bench.verdict.finding import Finding, Severity

from tests.support.made_runs import made_info, made_record, summed

TIERS = {
    "interactive": {"ttft_ms": {"p95": 90.0}, "tpot_ms": {"p95": 60.0}},
    "standard": {"ttft_ms": {"p95": 500.0}},
}


def run(folder: Path, run_id: str = "a", *, of: int = 200, **scenario: Any) -> RunSummary:
    records = [made_record(i, run_id=run_id) for i in range(of)]
    info = made_info(records, scenario={"slo_tiers": TIERS, **scenario})
    return summed(folder, records, info)


def test_a_summary_that_is_kept_has_them_again(tmp_path: Path) -> None:
    rates = {"requests_per_s": {"min": 3.0}, "ttft_ms": {"p95": 500.0}}
    found = run(tmp_path, slo=rates, slo_tiers={**TIERS, "batch": rates})
    plain = json.loads(json.dumps(_plain((found.attainment, found.tiers))))
    again = _made(Attainment, plain[0]), _made(dict[str, Attainment], plain[1])
    assert again == (found.attainment, found.tiers)


def test_a_tier_of_rates_alone_has_a_word_and_no_share(tmp_path: Path) -> None:
    slow, quick = ({"requests_per_s": {"min": least}} for least in (3.0, 300.0))
    found = run(tmp_path, slo_tiers={"slow": slow, "quick": quick})
    assert words(found) == {"slow": "met", "quick": "missed"}
    assert {t.share for t in found.tiers.values()} == {None}


def test_gaps_that_cannot_be_believed_meet_no_tier(tmp_path: Path) -> None:
    gaps = {"max_gap_ms": {"p95": 400.0}}
    found = run(tmp_path, slo_tiers={"smooth": gaps, "quick": {"ttft_ms": {"p95": 500.0}}})
    assert words(found) == {"smooth": "met", "quick": "met"}
    doubt = Finding("merged_reads", Severity.INVALID, "", "", "gaps")
    verdict = dataclasses.replace(found.verdict, findings=(doubt,))
    assert verdict.level == "VALID"  # TTFT and pace, which a run is first read for
    tiers = _believed(found.tiers, verdict)
    assert {name: tier.word for name, tier in tiers.items()} == {"smooth": "missed", "quick": "met"}
    assert tiers["smooth"].unmeasured is not None


def words(of: Any) -> dict[str, str]:
    return {name: found.word for name, found in of.tiers.items()}


def test_each_tier_has_an_attainment_of_its_own_in_the_scenarios_order(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert list(found.tiers) == ["interactive", "standard"]
    assert words(found) == {"interactive": "missed", "standard": "met"}
    assert found.attainment is None


def test_a_tier_that_is_missed_changes_no_exit_code(tmp_path: Path) -> None:
    alone = run(tmp_path)
    beside = run(tmp_path, "b", slo={"ttft_ms": {"p95": 500.0}})
    missed = run(tmp_path, "c", slo={"ttft_ms": {"p95": 50.0}})
    slow = run(tmp_path, "d", slo={"requests_per_s": {"min": 300.0}})
    assert [exit_code([one]) for one in (alone, beside, missed, slow)] == [0, 0, 3, 3]


def test_runs_of_a_level_are_one_sample_of_each_tier(tmp_path: Path) -> None:
    short = [run(tmp_path, name, of=40) for name in "ab"]
    assert words(short[0])["standard"] == "not shown"  # of 36 requests none was late
    level = Level(tuple(short))
    assert words(level)["standard"] == "met"
    assert level.tiers["standard"].arrivals == sum(s.tiers["standard"].arrivals for s in short)


def test_a_tier_that_a_run_lacks_or_has_otherwise_is_of_no_level(tmp_path: Path) -> None:
    other = {**TIERS, "standard": {"ttft_ms": {"p95": 400.0}}}
    lacking = {"interactive": TIERS["interactive"]}
    first = run(tmp_path)
    for name, tiers in (("b", other), ("c", lacking)):
        level = Level((first, run(tmp_path, name, slo_tiers=tiers)))
        assert list(level.tiers) == ["interactive"]


def test_tiers_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    assert run(tmp_path, slo_tiers=None).tiers == {}
    assert run(tmp_path, "b", slo_tiers={}).tiers == {}
    odd = {"none": {}, "damaged": {"ttft_ms": {"p99": "x"}}, "good": {"success_rate": 0.9}}
    assert list(run(tmp_path, "c", slo_tiers=odd).tiers) == ["good"]
