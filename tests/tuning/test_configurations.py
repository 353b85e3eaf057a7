"""experiments.yaml: what it may say, which configurations that makes, and what is wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench import launcher
from vllm_bench.tuning.configurations import (
    CHOSEN,
    MOST_CONFIGURATIONS,
    SHORT,
    Configuration,
    ExperimentsError,
    configurations,
    experiments_of,
    read_raw,
)

from tests.support.reading import one_line

SECRET = "hf_xSECRETx"


def made(**raw: Any) -> list[Configuration]:
    return configurations(experiments_of({"scenario": "s", **raw}, "e.yaml"))


def refusal(**raw: Any) -> str:
    with pytest.raises(ExperimentsError) as e:
        made(**raw)
    return one_line(str(e.value))


def settings(**raw: Any) -> list[Mapping[str, str]]:
    return [one.settings for one in made(**raw)]


def test_axes_are_a_grid_whose_last_axis_changes_fastest() -> None:
    found = made(axes={"GPU_MEM_UTIL": [0.85, 0.9], "KV_CACHE_DTYPE": ["auto", "fp8"]})
    assert [(one.name, one.label) for one in found] == [
        ("mem 0.85, kv auto", "mem0.85-kvauto"),
        ("mem 0.85, kv fp8", "mem0.85-kvfp8"),
        ("mem 0.9, kv auto", "mem0.9-kvauto"),
        ("mem 0.9, kv fp8", "mem0.9-kvfp8"),
    ]
    assert found[1].settings == {"GPU_MEM_UTIL": "0.85", "KV_CACHE_DTYPE": "fp8"}


def test_a_list_has_names_of_its_own_and_comes_first() -> None:
    found = made(
        configurations=[{"name": "eager", "EXTRA_ARGS": "--enforce-eager"}, {}],
        axes={"MAX_NUM_SEQS": [8]},
    )
    assert [one.name for one in found] == ["eager", "base", "seqs 8"]


@pytest.mark.parametrize(
    "values",
    [[0.9, 0.90, "0.90", "0.9"], [8, 8.0, "8"], ["fp8", "fp8"], [None, ""]],
)
def test_equal_configurations_are_one(values: list[Any]) -> None:
    assert len(made(axes={"MAX_NUM_SEQS": [*values, 77]})) == 2


def test_what_is_equal_on_the_server_is_one() -> None:
    axis = {"MAX_NUM_BATCHED_TOKENS": ["16k", 16000, "16K", 8192]}
    assert len(made(axes=axis)) == 3
    assert [one.name for one in made(axes={"KV_CACHE_DTYPE": ["auto", "fp16", "fp8"]})] == [
        "kv auto",
        "kv fp8",
    ]
    asked = experiments_of({"scenario": "s", "axes": {"MAX_NUM_SEQS": ["", 8, 9]}}, "e.yaml")
    assert len(configurations(asked)) == 3
    assert len(configurations(asked, {"MAX_NUM_SEQS": "8"})) == 3  # an empty one takes it away
    listed = [{}, {"name": "eight", "MAX_NUM_SEQS": 8}, {"MAX_NUM_SEQS": 9}]
    asked = experiments_of({"scenario": "s", "configurations": listed}, "e.yaml")
    names = [one.name for one in configurations(asked, {"MAX_NUM_SEQS": "8"})]
    assert names == ["base", "seqs 9"]


def test_what_stands_in_the_list_and_in_the_grid_is_once_under_its_own_name() -> None:
    found = made(
        configurations=[{"name": "wide", "MAX_NUM_SEQS": 64}], axes={"MAX_NUM_SEQS": [32, 64]}
    )
    assert [one.name for one in found] == ["wide", "seqs 32"]


def test_values_can_have_names() -> None:
    axis = {"EXTRA_ARGS": {"eager": "--enforce-eager", "graphs": None}}
    assert [one.name for one in made(axes=axis)] == ["eager", "graphs"]
    assert settings(axes=axis)[1] == {"EXTRA_ARGS": ""}


def test_extra_arguments_come_behind_those_of_the_base() -> None:
    base = {"EXTRA_ARGS": "--trust-remote-code", "MAX_NUM_SEQS": "8", "MODEL": "m"}
    eager, none = made(axes={"EXTRA_ARGS": ["--enforce-eager", ""], "MAX_NUM_SEQS": [""]})
    assert eager.over(base) == {"EXTRA_ARGS": "--trust-remote-code --enforce-eager", "MODEL": "m"}
    assert none.over(base) == {"EXTRA_ARGS": "--trust-remote-code", "MODEL": "m"}


def test_every_variable_of_the_launcher_has_a_short_name() -> None:
    tuned = {*launcher.SETTINGS, *launcher.OF_THE_LAUNCHER, "EXTRA_ARGS"} - {*CHOSEN}
    assert {*SHORT} == tuned


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"axes": {"GPU_MEM_UTILS": [1, 2]}}, "GPU_MEM_UTIL?"),
        ({"axes": {"gpu_mem_util": [1, 2]}}, "GPU_MEM_UTIL?"),
        ({"axes": {"MAX_SEQS": [1, 2]}}, "MAX_NUM_SEQS?"),
        ({"axes": {"Blue": [1, 2]}}, "KV_CACHE_DTYPE"),
        ({"axes": {"PORT": [1, 2]}}, "PORT"),
        ({"axis": {"MAX_NUM_SEQS": [1, 2]}}, "axes?"),
        ({"MAX_NUM_SEQS": [1, 2]}, "under axes"),
        ({"axes": {"MAX_NUM_SEQS": []}}, "axes.MAX_NUM_SEQS"),
        ({"axes": {"MAX_NUM_SEQS": 8}}, "axes.MAX_NUM_SEQS"),
        ({"axes": {"MAX_NUM_SEQS": [[8]]}}, "axes.MAX_NUM_SEQS"),
        ({"axes": {"VLLM_USE_X": [True, False]}}, "quotes"),
        ({"axes": {"MODEL": ["a\nb", "c"]}}, "axes.MODEL"),
        ({"axes": {"GPU_MEM_UTIL": [float("nan"), 1]}}, "axes.GPU_MEM_UTIL"),
        ({"axes": ["MAX_NUM_SEQS"]}, "axes"),
        ({"axes": {5: [1, 2]}}, "axes.5"),
        ({"aim": "troughput", "axes": {"MAX_NUM_SEQS": [1, 2]}}, "throughput?"),
        ({"scenario": 5, "axes": {"MAX_NUM_SEQS": [1, 2]}}, "scenario"),
        ({"configurations": [{"MAX_NUM_SEQS": 8}, {"MAX_NUM_SEKS": 9}]}, "MAX_NUM_SEQS?"),
        ({"configurations": [{"MAX_NUM_SEQS": 8}, 9]}, "configurations.2"),
        ({"configurations": {"a": 1}}, "configurations"),
        ({"configurations": [{"name": "a", "MODEL": "x"}, {"name": "a", "MODEL": "y"}]}, " a:"),
        ({"base": ["a.env"], "axes": {"MAX_NUM_SEQS": [1, 2]}}, "base"),
        ({"name": "../x", "axes": {"MAX_NUM_SEQS": [1, 2]}}, "name"),
        ({}, "nothing to try"),
        ({"axes": {"MAX_NUM_SEQS": [8]}}, "one configuration"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(raw: dict[str, Any], said: str) -> None:
    assert said in refusal(**raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"base": {"HF_TOKEN": SECRET}},
        {"base": {"EXTRA_ARGS": f"--api-key {SECRET}"}},
        {"base": {"MODEL": [SECRET]}},
        {"base": [SECRET]},
        {"base": {SECRET: 1}},
        {"axes": {"VLLM_API_KEY": [SECRET, "b"]}},
        {"axes": {"HF_TOKEN": {"mine": SECRET, "yours": "b"}}},
        {"base": {"HF_ENDPOINT": f"https://me:{SECRET}@hub.example"}},
        {"axes": {"EXTRA_ARGS": [f"--api-key {SECRET}", ""]}},
        {"axes": {"EXTRA_ARGS": {"mine": f"--enforce-eager --api-key={SECRET}", "none": ""}}},
        {"configurations": [{"name": "a", "HF_TOKEN": SECRET}]},
    ],
)
def test_a_secret_is_refused_and_its_value_not_shown(raw: dict[str, Any]) -> None:
    said = refusal(**{"axes": {"MAX_NUM_SEQS": [1, 2]}, **raw})
    if raw != {"base": {SECRET: 1}}:  # a name isn't a secret
        assert SECRET not in said


def test_too_many_are_refused_before_they_are_made() -> None:
    assert str(MOST_CONFIGURATIONS) in refusal(axes={"MAX_NUM_SEQS": [*range(1, 100)]})
    huge = {name: [*range(1000)] for name in ("MAX_NUM_SEQS", "STREAM_INTERVAL", "MAX_MODEL_LEN")}
    assert "1,000,000,000" in refusal(axes=huge)
    assert len(made(axes={"MAX_NUM_SEQS": [*range(1, MOST_CONFIGURATIONS + 1)]})) == 64


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    for text in ("- a\n", "a: [\n", "axes: 1\naxes: 2\n"):
        path = tmp_path / "e.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ExperimentsError, match=r"e\.yaml"):
            read_raw(path)
    with pytest.raises(ExperimentsError, match="missing"):
        read_raw(tmp_path / "missing.yaml")


values = st.one_of(
    st.integers(1, 99), st.floats(0.1, 1), st.text("abc-_ =,/äß'\"", max_size=60), st.none()
)
axes = st.dictionaries(
    st.sampled_from([*SHORT]), st.lists(values, min_size=2, max_size=3), min_size=1, max_size=3
)


@given(axes)
def test_names_and_labels_are_each_there_once_and_labels_fit_file_names(
    given_axes: dict[str, list[Any]],
) -> None:
    try:
        found = made(axes=given_axes)
    except ExperimentsError:
        return
    for values in ([one.name for one in found], [one.label for one in found]):
        assert len({*values}) == len(values)
    assert all(one.label and one.label.replace("-", "").replace(".", "") for one in found)
    assert all(len(one.label) <= 32 and one.label[0].isalnum() for one in found)
    assert all(a.settings != b.settings for a, b in itertools.combinations(found, 2))
