"""docs/METHOD.md (and of margins docs/COMPARE.md) says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from vllm_bench.compare.history import MIN_NIGHTS
from vllm_bench.compare.judge import EQUIVALENT, SAFE
from vllm_bench.compare.measures import MEASURES
from vllm_bench.figures.metrics import METRICS
from vllm_bench.scenario.objectives import MLPERF_P99_MS, Slo
from vllm_bench.serverside import energy, over_time
from vllm_bench.stats.distribution import PERCENTILES, min_samples
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.level_columns import LEVEL_COLUMNS
from vllm_bench.verdict.run_checks import MIN_WINDOW_S
from vllm_bench.verdict.verdict import CHECKS, codes_table

DOCS = Path(__file__).resolve().parents[2] / "docs"
METHOD = (DOCS / "METHOD.md").read_text(encoding="utf-8")
COMPARE = (DOCS / "COMPARE.md").read_text(encoding="utf-8")


def between(start: str, end: str) -> str:
    """The text between two markers."""
    return METHOD.split(start, 1)[1].split(end, 1)[0].strip()


def test_the_table_of_codes_is_the_code_s():
    found = between("<!-- codes: python bench/summarize.py --codes -->", "<!-- /codes -->")
    assert found == codes_table()


def test_every_code_is_named_once_and_has_a_meaning_and_a_reason():
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes)
    assert all(check.meaning and check.rule.why for check in CHECKS)


def test_the_presets_are_those_that_a_scenario_may_name():
    rows = re.findall(r"\| `mlperf-(\S+)` \| (\d+) \| (\d+) \|", between("presets -->", "<!-- /"))
    assert {name: (int(ttft), int(tpot)) for name, ttft, tpot in rows} == MLPERF_P99_MS


def test_the_minima_are_those_that_hold():
    row = re.search(r"\| values needed \|(.*)\|\n", METHOD)
    assert row is not None
    assert [int(n) for n in row[1].split("|")] == [min_samples(q) for q in PERCENTILES]


def test_every_metric_and_every_objective_is_explained():
    counts = ("prompt_tokens", "completion_tokens")
    for metric in METRICS:
        assert metric.name in counts or f"| `{metric.name}` |" in METHOD, metric.name
    for key in Slo.model_fields:
        assert f"{key}:" in METHOD, key


def test_the_margins_and_the_rules_of_comparing_are_the_code_s():
    table = COMPARE.split("| measures | margin |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (.+) \| ([\d.]+) % \|$", table, re.MULTILINE)
    margins = {name: float(m) / 100 for names, m in rows for name in re.findall("`(.+?)`", names)}
    assert margins == pytest.approx({measure.name: measure.margin for measure in MEASURES})
    assert f"the {100 * EQUIVALENT:g} % interval lies within the margin" in COMPARE
    assert f"≥ {MIN_NIGHTS} nights" in METHOD
    assert f"upper {100 * SAFE:g} % bound" in METHOD


def test_the_figures_in_the_text_are_the_code_s():
    assert f"< {MIN_WINDOW_S:g} s" in codes_table()
    assert f"window of {energy.MIN_ENERGY_WINDOW_S:g} s" in METHOD
    assert f"for over {over_time.GPU_GAP_S:g} s" in METHOD


def test_columns_named_in_the_text_exist():
    columns = {c.name for c in SUMMARY_COLUMNS} | {c.name for c in LEVEL_COLUMNS}
    for name in ("window_output_tokens_per_s", "littles_law", "attainment", "goodput_per_s"):
        assert f"`{name}`" in METHOD
        assert name in columns


def test_every_figure_of_the_samples_is_explained_by_a_name_that_is_a_column():
    told = between("## Server, GPUs, energy, cost", "## Compare")
    columns = {c.name for c in SUMMARY_COLUMNS}
    named = set(re.findall(r"`((?:server|client|gpu|energy|cost|output|window)_[a-z_]+)`", told))
    others = {"server_metrics", "gpu_hour_price"}  # a folder, a key
    assert named - others <= columns
    kept = {"energy_window_j", "energy_source", "energy_absent", "cost_absent"}
    kept |= {"cost_gpus", "cost_gpu_hour_price"}
    assert {c for c in columns if c.startswith(("energy", "cost"))} - kept <= named
