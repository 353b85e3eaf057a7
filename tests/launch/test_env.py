"""Env files: what may be in them, what is refused and where, what is secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.env_file import EnvFileError
from vllm_bench.launch.env import Settings, read_env, settings_of
from vllm_bench.launcher import SETTINGS, flags_in, tokens

from tests.support.reading import one_line


def env(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "a.env"
    path.write_text(text)
    return read_env(path, environ)


def test_a_file_stands_over_the_environment_and_empties_what_it_sets(tmp_path: Path) -> None:
    found = env(tmp_path, "MAX_NUM_SEQS=16\nPORT=\n", MAX_NUM_SEQS="64", PORT="9", MODEL="m")
    assert found.name == "a"
    assert found.values == {"MAX_NUM_SEQS": "16", "PORT": ""}
    assert found.asked == {"model": "m", "max_num_seqs": "16"}
    assert found.port == 8000


def test_the_last_of_a_flag_wins(tmp_path: Path) -> None:
    found = env(tmp_path, "PORT=1\nMAX_NUM_SEQS=2\nEXTRA_ARGS=--port=7 --max_num_seqs 3 -tp 4\n")
    assert (found.port, found.base_url) == (7, "http://127.0.0.1:7/v1")
    assert found.asked["max_num_seqs"] == "3"
    assert found.asked["tensor_parallel_size"] == "4"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:8000/v1"),
        ("0.0.0.0", "http://127.0.0.1:8000/v1"),
        ("::", "http://[::1]:8000/v1"),
        ("gpu7", "http://gpu7:8000/v1"),
        ("fe80::1", "http://[fe80::1]:8000/v1"),
    ],
)
def test_where_clients_of_this_machine_reach_it(tmp_path: Path, host: str, url: str) -> None:
    assert env(tmp_path, f"HOST={host}\n").base_url == url


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("MAX_NUM_SEQS=many", "MAX_NUM_SEQS=many"),
        ("PORT=0", "1 to 65535"),
        ("GPU_MEM_UTIL=90", "fraction"),
        ("EXTRA_ARGS=--x 's3cret", "quote"),
        ("MAX_NUM_SEQ=8", "did you mean MAX_NUM_SEQS?"),
        ("max_num_seqs=8", "did you mean MAX_NUM_SEQS?"),
        ("GPU_MEMORY_UTILIZATION=0.8", "did you mean GPU_MEM_UTIL?"),
        (f"EXTRA_ARGS=--x {'s3cret' * 1000}", "longer"),
        ("export MODEL=x", "export"),
        ("MODEL = x", "blanks"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(EnvFileError, match="line 2: ") as refusal:
        env(tmp_path, f"# first\n{line}\n")
    assert words in one_line(f"{refusal.value}\n")
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_a_file_that_is_not_there_or_none_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.env", tmp_path):
        with pytest.raises(EnvFileError, match=str(path)):
            read_env(path)


def test_what_is_wrong_below_the_file_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(EnvFileError, match="environment"):
        env(tmp_path, "MODEL=m\n", EXTRA_ARGS="'open")


def test_other_variables_reach_vllm_but_for_what_is_composes(tmp_path: Path) -> None:
    found = env(tmp_path, "VLLM_USE_X=1\nGPU_COUNT=2\nHF_TOKEN=hf_your_token_here\n", HOME="/h")
    assert found.environ == {"VLLM_USE_X": "1", "HOME": "/h"}


SECRET = """HF_TOKEN=hf_s3cret-one
AWS_SECRET=s3cret-two
EXTRA_ARGS=--api-key s3cret-three --x '{"client_secret": "s3cret-four"}' --seed 1
HTTP_PROXY_URL=http://me:s3cret-five@proxy
"""


def test_secrets_are_found_and_never_shown(tmp_path: Path) -> None:
    found = env(tmp_path, SECRET, VLLM_API_KEY="s3cret-six")
    assert "s3cret" not in repr(found) + str(found.shown)
    assert found.shown["EXTRA_ARGS"].startswith("--api-key '***' --x ")
    for number in ("one", "two", "three", "four", "five", "six"):
        assert any(secret.endswith(f"s3cret-{number}") for secret in found.secrets)
    assert found.api_key == "s3cret-three"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("4096", 4096), ("16k", 16_000), ("16K", 16_384), ("25.6k", 25_600), ("2M", 2 << 20)],
)
def test_suffixes_mean_what_vllm_takes_them_for(text: str, meant: int) -> None:
    assert tokens(text) == meant


@pytest.mark.parametrize("text", ["", "k", "1.5K", "many", "1kk"])
def test_what_vllm_would_not_take_for_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of int and float, in any words
        tokens(text)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--no-enable-prefix-caching"], {"enable_prefix_caching": "False"}),
        (["--enforce-eager", "--seed", "1"], {"enforce_eager": "True", "seed": "1"}),
        (["--served-model-name", "a", "b"], {"served_model_name": "a b"}),
        (["--x", "-1"], {"x": "-1"}),
        (["--seed", "1", "--seed=2"], {"seed": "2"}),
        (["lost"], {}),
    ],
)
def test_flags_have_vllms_names(words: list[str], found: dict[str, str]) -> None:
    assert flags_in(words) == found


VALUES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)


@given(st.dictionaries(st.sampled_from([*SETTINGS, "EXTRA_ARGS", "HF_TOKEN"]), VALUES))
def test_any_values_are_refused_in_one_line_or_can_be_asked(values: dict[str, str]) -> None:
    problem, found = "", None
    try:
        found = settings_of(Path("a.env"), values, {})
    except EnvFileError as e:
        problem = str(e)
    assert (found is None) == (len(problem.splitlines()) == 1)
    if found is not None:
        assert 1 <= found.port <= 65535
        assert found.asked["model"]
        assert found.shown.get("HF_TOKEN", "") in ("", "***")
