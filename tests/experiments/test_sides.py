"""What is refused before a server is started, and what two servers are asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vllm_bench.errors import BenchError, UsageError
from vllm_bench.experiments.servers import Started, served_names
from vllm_bench.experiments.sides import (
    check_pair,
    equal_settings,
    standing_pair,
    started_pair,
)
from vllm_bench.launch.env import read_env
from vllm_bench.scenario.scenario import Scenario

from tests.support.running import write_prompts

KEY = "sk-planted-4711-planted"
SIM = "SIMULATOR=tiny-cpu"
NEITHER = (None, None)


def env(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join((SIM, *lines)) + "\n")
    return path


def started(path: Path, *, keep_model: bool = False) -> Started:
    return Started("x", read_env(path, {}), keep_model)


def scenario(folder: Path, **changes: object) -> Scenario:
    settings = {"name": "one", "model": "m", "max_new_tokens": 8, "concurrencies": [2]}
    dataset = f"file:{write_prompts(folder)}"
    return Scenario.model_validate({**settings, "num_requests": 9, "dataset": dataset, **changes})


# ---- what one is asked ----


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ((), ("openai/gpt-oss-20b", "gpt-oss-20")),
        (("MODEL=gpt-oss-20b",), ("openai/gpt-oss-20b", "gpt-oss-20b")),
        (("MODEL=Qwen/Qwen3-8B",), ("Qwen/Qwen3-8B",)),
        (("MODEL=/models/m", "EXTRA_ARGS=--served-model-name one two"), ("one", "two")),
        (("EXTRA_ARGS=--enable-lora --lora-modules red=/r",), ()),
    ],
)
def test_the_names_that_a_server_will_know_its_model_by(
    tmp_path: Path, lines: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert served_names(read_env(env(tmp_path, "a.env", *lines), {})) == names


def test_a_scenario_goes_where_the_env_file_says(tmp_path: Path) -> None:
    path = env(tmp_path, "a.env", "MODEL=org/m", "PORT=8123", f"VLLM_API_KEY={KEY}")
    asked = scenario(tmp_path)
    found = started(path).scenario(asked)
    assert (found.base_url, found.model) == ("http://127.0.0.1:8123/v1", "org/m")
    assert found.api_key_env is not None
    assert started(path).environ({"X": "y"}) == {"X": "y", found.api_key_env: KEY}
    assert started(path, keep_model=True).scenario(asked).model == "m"
    own = scenario(tmp_path, model="org/m", api_key_env="MINE")
    assert started(path).scenario(own).api_key_env == "MINE"
    lora = env(tmp_path, "b.env", "EXTRA_ARGS=--enable-lora --lora-modules m=/r")
    assert started(lora).scenario(asked).model == "m"


def test_what_is_kept_of_an_env_file_has_no_secret_and_tells_settings_apart(
    tmp_path: Path,
) -> None:
    def asked(*lines: str) -> str:
        found = started(env(tmp_path, "a.env", *lines)).asked
        assert KEY not in found.model_dump_json()
        return found.sha256

    same = [
        asked("MAX_NUM_SEQS=64"),
        asked("# a comment", "MAX_NUM_SEQS=64"),
        asked("MAX_NUM_SEQS=64", "PORT=8123"),
    ]
    assert len(set(same)) == 1
    others = [
        asked("MAX_NUM_SEQS=65"),
        asked("MAX_NUM_SEQS=64", "VLLM_ATTENTION_BACKEND=FLASHINFER"),
        asked("MAX_NUM_SEQS=64", "EXTRA_ARGS=--no-enable-prefix-caching"),
    ]
    assert len({*same, *others}) == 4
    keys = [asked(f"VLLM_API_KEY={KEY}{n}", f"EXTRA_ARGS=--api-key {KEY}{n}") for n in (1, 2)]
    assert keys[0] == keys[1]


# ---- two, before one is started ----


@pytest.mark.process
def test_labels_are_the_names_of_the_files_or_what_tells_them_apart(tmp_path: Path) -> None:
    one, other = env(tmp_path, "a.env"), env(tmp_path, "b.env", "MAX_NUM_SEQS=3")
    there = env(tmp_path / "there", "a.env")
    here = env(tmp_path / "here", "a.env")

    def labels(a: Path, b: Path, given: tuple[str | None, str | None] = NEITHER) -> list[str]:
        pair = started_pair((a, b), given, os.environ, keep_model=False)
        return [server.asked.label for server in pair.values()]

    assert labels(one, other) == ["a", "b"]
    assert labels(one, other, ("x", None)) == ["x", "b"]
    assert labels(here, there) == ["here-a", "there-a"]
    assert labels(here, here) == ["a-a", "a-b"]
    assert labels(one, one, ("base", None)) == ["base", "a"]
    assert labels(one, there, ("b", None)) == ["b", "a"]
    assert labels(here, other, ("b", None)) in (["b", f"{tmp_path.name}-b"], ["b", "b-b"])
    equal = started_pair((here, there), NEITHER, os.environ, keep_model=False)
    assert equal_settings(equal)
    assert not equal_settings(started_pair((one, other), NEITHER, os.environ, keep_model=False))


@pytest.mark.process
@pytest.mark.parametrize(
    ("lines", "given", "told"),
    [
        (("MAX_NUM_SEQ=64",), NEITHER, "MAX_NUM_SEQS"),
        (("MAX_NUM_SEQS=many",), NEITHER, "MAX_NUM_SEQS=many"),
        (("export MAX_NUM_SEQS=64",), NEITHER, "line 2"),
        (("SIMULATOR=nope",), NEITHER, "SIMULATOR=nope"),
        (("SIMULATOR=", "VLLM_COMMAND=/no/such/vllm"), NEITHER, "/no/such/vllm"),
        (("VLLM_COMMAND=/no/such/vllm",), NEITHER, "VLLM_COMMAND"),  # and a simulator
        ((), ("b", "b"), "--label-a"),
        ((), ("a/b", None), "--label-a"),
        ((), (None, "x" * 33), "--label-b"),
    ],
)
def test_an_env_file_or_a_label_that_cannot_work_is_refused(
    tmp_path: Path, lines: tuple[str, ...], given: tuple[str | None, str | None], told: str
) -> None:
    files = env(tmp_path, "a.env"), env(tmp_path, "b.env", *lines, f"VLLM_API_KEY={KEY}")
    with pytest.raises(UsageError) as problem:
        started_pair(files, given, os.environ, keep_model=False)
    assert told in str(problem.value)
    assert KEY not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_missing_env_file_is_refused(tmp_path: Path) -> None:
    files = tmp_path / "none.env", tmp_path / "b.env"
    with pytest.raises(UsageError, match=r"none\.env"):
        started_pair(files, NEITHER, {}, keep_model=False)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("ftp://x/v1", "http://y/v1", "--base-url-a"),
        ("http://x/v1", "http://", "--base-url-b"),
        ("http://x:1/v1", "http://x:1/v1/", "one server"),
        ("http://-:1/v1", "http://y/v1", "--label-a"),
    ],
)
def test_addresses_that_cannot_work_are_refused(a: str, b: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        standing_pair((a, b), NEITHER)


def test_servers_that_stand_are_called_by_their_addresses() -> None:
    pair = standing_pair(("http://gpu7:8000/v1", "http://gpu7:8001/v1"), (None, "new"))
    assert [server.asked.label for server in pair.values()] == ["gpu7-8000", "new"]


@pytest.mark.process
def test_two_that_know_their_models_by_other_names_are_refused(tmp_path: Path) -> None:
    files = env(tmp_path, "a.env", "MODEL=one"), env(tmp_path, "b.env", "MODEL=other")
    pair = started_pair(files, NEITHER, os.environ, keep_model=False)
    with pytest.raises(UsageError, match="--served-model-name"):
        check_pair(pair, scenario(tmp_path), os.environ)
    kept = started_pair(files, NEITHER, os.environ, keep_model=True)
    check_pair(kept, scenario(tmp_path), os.environ)  # the server will say what it serves


@pytest.mark.parametrize("changes", [{"dataset": "file:none.txt"}, {"api_key_env": "NO_SUCH_KEY"}])
def test_a_scenario_that_cannot_run_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    pair = standing_pair(("http://x:1/v1", "http://x:2/v1"), NEITHER)
    with pytest.raises(BenchError):
        check_pair(pair, scenario(tmp_path, **changes), {})
