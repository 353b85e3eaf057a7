"""Results of `vllm bench serve`: what they tell of the measures, and what isn't one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.compare.measures import MEASURES
from vllm_bench.compare.theirs import KEYS, facts_apart, is_vllm, read_results, told
from vllm_bench.records.request_record import RecordsError
from vllm_bench.scenario.load import Load

REAL = Path(__file__).resolve().parents[1] / "data" / "vllm_bench_serve.json"
BARE = {"completed": 1, "request_throughput": 2.0, "output_throughput": 3.0}


def test_a_real_result_tells_every_measure_but_energy() -> None:
    (result,) = read_results(REAL)
    found = told("theirs", result)
    names = {measure.name for measure in MEASURES}
    assert set(KEYS) < names
    assert set(found.figures) == names - {"energy_per_output_token_j", "ttfa_p50_ms", "ttfa_p95_ms"}
    assert found.load == Load("streams", 4)
    assert found.figures["output_tokens_per_s"] == result["output_throughput"]
    assert found.figures["success_rate"] == 1


def test_several_results_are_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text("".join(json.dumps({**BARE, "max_concurrency": n}) + "\n" for n in (1, 2)))
    assert [told("x", one).load.value for one in read_results(path)] == [1, 2]


@pytest.mark.parametrize(
    ("more", "load"),
    [
        ({"request_rate": "inf", "max_concurrency": 8}, Load("streams", 8)),
        ({"request_rate": 2.5, "max_concurrency": 8}, Load("requests/s", 2.5)),
        ({"request_rate": "inf", "max_concurrency": None, "num_prompts": 5}, Load("streams", 5)),
        ({}, Load("streams", 0)),
    ],
)
def test_the_load_is_the_rate_else_the_streams(more: dict[str, Any], load: Load) -> None:
    assert told("x", {**BARE, **more}).load == load


def test_failures_count_in_the_rate_of_success() -> None:
    assert told("x", {**BARE, "completed": 3, "failed": 1}).figures["success_rate"] == 0.75
    assert told("x", {**BARE, "completed": 3, "num_prompts": 4}).figures["success_rate"] == 0.75


@pytest.mark.parametrize("wrong", [None, True, "1", -1, [1]])
def test_what_is_no_figure_is_left_out(wrong: object) -> None:
    assert "output_tokens_per_s" not in told("x", {**BARE, "output_throughput": wrong}).figures


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", json.dumps({"run_id": "x"})])
def test_another_file_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert not is_vllm(path)
    with pytest.raises(RecordsError, match=r"x\.json"):
        read_results(path)


def test_a_missing_file_or_another_kind_is_none(tmp_path: Path) -> None:
    assert not is_vllm(tmp_path / "missing.json")
    (tmp_path / "x.csv").write_text(json.dumps(BARE))
    assert not is_vllm(tmp_path / "x.csv")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
ODD = st.fixed_dictionaries(dict.fromkeys([*BARE, "max_concurrency", "request_rate"], JSON))


@given(ODD)
def test_whatever_a_result_says_its_figures_are_numbers(result: dict[str, Any]) -> None:
    found = told("x", result)
    assert all(type(value) is float and value >= 0 for value in found.figures.values())
    assert facts_apart([result], [result]) == ()
    assert orjson.dumps(found.figures)


def test_what_was_asked_for_differs() -> None:
    one, other = {**BARE, "model_id": "\x1b[2Ja"}, {**BARE, "model_id": "b"}
    (found,) = facts_apart([one], [other])
    assert (found.what, found.b) == ("model_id", "b")
    assert "\x1b" not in found.a
