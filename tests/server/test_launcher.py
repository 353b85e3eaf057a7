"""server/run_server.sh, run with a `vllm` that only says what it was given."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from serve import SETTINGS

from tests.support.beside.waiting import LIMIT_S

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "server/run_server.sh",
    "server/serve.py",
    "bench/vllm_bench/scenario/secrets.py",
    "bench/vllm_bench/scenario/echoes.py",
    # What is outside of the rooms needs no package.
    *(str(p.relative_to(ROOT)) for p in (ROOT / "bench" / "vllm_bench").glob("*.py")),
)
ALIAS = ["openai/gpt-oss-20b", "--served-model-name", "openai/gpt-oss-20b", "gpt-oss-20"]
FAKE_VLLM = f"""#!{sys.executable} -IS
import json, os, sys
print(json.dumps([os.getpid(), sys.argv[1:], dict(os.environ)]))
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one start."""

    pid: int
    status: int
    stdout: str
    stderr: str

    @property
    def vllm(self) -> tuple[int, list[str], dict[str, str]]:
        """The process id, arguments and environment that vLLM was started with."""
        pid, (verb, *arguments), env = json.loads(self.stdout)
        assert verb == "serve"
        return pid, arguments, env

    def complains_once(self, *parts: str) -> bool:
        return self.stderr.count("\n") == 1 and all(part in self.stderr for part in parts)


class Checkout:
    """The launcher's files in a folder of their own, with all the programs it may start."""

    def __init__(self, root: Path) -> None:
        self.root, self.env_file = root, root / ".env"
        for name in FILES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        (root / "bin").mkdir()
        (root / "elsewhere").mkdir()
        for program in ("sh", "dirname"):
            (root / "bin" / program).symlink_to(shutil.which(program) or pytest.skip(program))
        # Without packages, as it is before `make install`.
        self.program("python3", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        self.program("vllm", FAKE_VLLM)

    def program(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def run(self, *words: str, file: str = "", env: Mapping[str, str] | None = None) -> Outcome:
        """Start it from elsewhere, beside a .env of this text."""
        self.env_file.write_text(file)
        with subprocess.Popen(
            ["sh", f"{self.root}/server/run_server.sh", *words],
            env={"PATH": f"{self.root}/bin", **(env or {})},
            cwd=self.root / "elsewhere",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        return Outcome(process.pid, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("a checkout"))


# --- the command ------------------------------------------------------------------------------


def test_nothing_set_serves_the_default_model_and_vllm_replaces_the_launcher(
    checkout: Checkout,
) -> None:
    outcome = checkout.run()
    assert outcome.vllm[:2] == (outcome.pid, ALIAS)  # one process: signals reach vLLM
    assert outcome.stderr == ""


def test_every_setting_becomes_its_flag_and_the_extra_ones_come_last(checkout: Checkout) -> None:
    env = {
        "MODEL": "org/model",
        "HOST": "127.0.0.1",
        "PORT": "8001",
        "GPU_MEM_UTIL": "0.85",
        "MAX_MODEL_LEN": "4096",
        "KV_CACHE_DTYPE": "fp8",
        "MAX_NUM_BATCHED_TOKENS": "8192",
        "MAX_NUM_SEQS": "128",
        "TENSOR_PARALLEL_SIZE": "2",
        "STREAM_INTERVAL": "20",
        "EXTRA_ARGS": """--seed 0 'two words' a\\ b * $HOME $(touch ran) --x '{"a": false}'""",
    }
    _, arguments, _ = checkout.run(env=env).vllm
    assert arguments == shlex.split(
        "org/model --host 127.0.0.1 --port 8001 --gpu-memory-utilization 0.85"
        " --max-model-len 4096 --kv-cache-dtype fp8 --max-num-batched-tokens 8192"
        " --max-num-seqs 128 --tensor-parallel-size 2 --stream-interval 20 --seed 0"
        """ 'two words' 'a b' '*' '$HOME' '$(touch' 'ran)' --x '{"a": false}'"""
    )
    assert list((checkout.root / "elsewhere").iterdir()) == []


def test_fp16_becomes_auto_and_a_line_says_so(checkout: Checkout) -> None:
    outcome = checkout.run(env={"MODEL": "gpt-oss-20b", "KV_CACHE_DTYPE": "FP16"})
    assert outcome.vllm[1] == [*ALIAS[:3], "gpt-oss-20b", "--kv-cache-dtype", "auto"]
    assert outcome.complains_once("fp16", "auto")


def test_without_vllm_one_line_says_where_it_comes_from(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (tmp_path / "bin" / "vllm").unlink()
    outcome = checkout.run()
    assert outcome.status == 1
    assert outcome.complains_once("pip install vllm", "docker-compose up")
    assert checkout.run("--dry-run").status == 0


@pytest.mark.parametrize("words", ["--api-key s3cret", "--dry-run --port 1", "model"])
def test_an_unknown_argument_is_refused(checkout: Checkout, words: str) -> None:
    outcome = checkout.run(*words.split())
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.complains_once("--dry-run", "EXTRA_ARGS")
    assert "s3cret" not in outcome.stderr


def test_help_names_every_setting(checkout: Checkout) -> None:
    outcome = checkout.run("--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    words = set(outcome.stdout.replace(".", " ").split())
    assert {"--dry-run", "HF_TOKEN", "VLLM_API_KEY", "EXTRA_ARGS", *SETTINGS} <= words


# --- what is started --------------------------------------------------------------------------

ENGINE = ("server/sim/engine/profiles.py", "server/sim/engine/step.py", "server/simulator.py")
SETTING = {
    "MODEL": "org/model",
    "HOST": "127.0.0.1",
    "PORT": "8001",
    "GPU_MEM_UTIL": "0.85",
    "MAX_MODEL_LEN": "16k",
    "KV_CACHE_DTYPE": "fp8",
    "MAX_NUM_BATCHED_TOKENS": "8K",
    "MAX_NUM_SEQS": "128",
    "STREAM_INTERVAL": "20",
    "EXTRA_ARGS": "--seed 7",
}


@pytest.fixture(scope="module")
def with_simulator(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("with simulator"))
    for name in ENGINE:
        (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout.root / name)
    return checkout


def test_the_simulator_gets_the_same_settings(with_simulator: Checkout) -> None:
    outcome = with_simulator.run("--dry-run", env={"SIMULATOR": "tiny-cpu", **SETTING})
    assert (outcome.status, outcome.stderr) == (0, "")
    _, script, *arguments = shlex.split(outcome.stdout.split("\n", 1)[1])
    assert script == str(with_simulator.root / "server" / "simulator.py")
    assert arguments == shlex.split(
        "--profile tiny-cpu --model org/model --host 127.0.0.1 --port 8001"
        " --gpu-memory-utilization 0.85 --max-model-len 16000 --kv-cache-dtype fp8"
        " --max-num-batched-tokens 8192 --max-num-seqs 128 --stream-interval 20 --seed 7"
    )


def test_the_simulator_takes_its_flags() -> None:
    import simulator

    known = {flag for action in simulator._parser()._actions for flag in action.option_strings}
    assert {flag for flag, *_ in SETTINGS.values()} - known == {"", "--tensor-parallel-size"}


def test_the_simulators_interpreter_is_that_of_make_install(with_simulator: Checkout) -> None:
    made = with_simulator.root / ".venv" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    outcome = with_simulator.run("--dry-run", env={"SIMULATOR": "tiny-cpu"})  # python3 has none
    shutil.rmtree(with_simulator.root / ".venv")
    assert shlex.split(outcome.stdout.split("\n", 1)[1])[0] == str(made)


@pytest.mark.parametrize(
    "env",
    [
        {"SIMULATOR": "h1000"},
        {"SIMULATOR": "tiny-cpu", "TENSOR_PARALLEL_SIZE": "2"},
        {"SIMULATOR": "tiny-cpu", "MAX_MODEL_LEN": "auto"},
        {"SIMULATOR": "tiny-cpu", "MAX_NUM_BATCHED_TOKENS": "1.5K"},
        {"SIMULATOR": "tiny-cpu", "VLLM_COMMAND": "/other/vllm"},
    ],
)
def test_what_the_simulator_cannot_do_is_refused(
    with_simulator: Checkout, env: dict[str, str]
) -> None:
    outcome = with_simulator.run(env=env)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.complains_once(list(env)[-1])


def test_another_build_is_started_and_hears_nothing_of_it(checkout: Checkout) -> None:
    other = checkout.root / "another build"
    other.write_text(FAKE_VLLM)
    other.chmod(0o755)
    for env, file in (({"VLLM_COMMAND": str(other)}, ""), ({}, f"VLLM_COMMAND='{other}'\n")):
        outcome = checkout.run(file=file, env={"SIMULATOR": "", **env})
        pid, arguments, seen = outcome.vllm
        assert (pid, arguments, outcome.stderr) == (outcome.pid, ALIAS, "")
        assert not {"SIMULATOR", "VLLM_COMMAND"} & seen.keys()


def test_a_build_that_is_not_there_is_named(checkout: Checkout) -> None:
    outcome = checkout.run(env={"VLLM_COMMAND": "/nowhere/vllm"})
    assert outcome.status == 1
    assert outcome.complains_once("VLLM_COMMAND=/nowhere/vllm")


# --- .env and the environment (test_env_file.py has what a line may be) -----------------------


def test_the_environment_wins_and_empty_is_not_given(checkout: Checkout) -> None:
    file = "MODEL=file\nPORT=9000\nHOST=\nMAX_NUM_SEQS=8\nHF_HOME=\nVLLM_SERVER_DEV_MODE=1\n"
    empty = dict.fromkeys(("MAX_NUM_SEQS", "HF_TOKEN", "VLLM_SERVER_DEV_MODE"), "")
    outcome = checkout.run(file=file, env={"MODEL": "shell", "CUDA_VISIBLE_DEVICES": "", **empty})
    _, arguments, env = outcome.vllm
    assert arguments == ["shell", "--port", "9000"]
    assert not {"HF_HOME", "HF_TOKEN", "VLLM_SERVER_DEV_MODE"} & env.keys()
    assert env["CUDA_VISIBLE_DEVICES"] == ""  # no GPU at all


def test_what_else_the_file_has_reaches_vllm_but_for_what_is_composes(checkout: Checkout) -> None:
    others = {"HF_HOME": "/data/hf", "VLLM_LOGGING_LEVEL": "DEBUG", "https_proxy": "p:3128"}
    others |= {"IFS": "x", "ENV": "$(touch ran)", "SHELLOPTS": "`touch ran`"}
    file = "".join(f"{name}='{value}'\n" for name, value in others.items())
    _, _, env = checkout.run(file=f"{file}VLLM_IMAGE_TAG=v0.33.0\nGPU_COUNT=2\n").vllm
    assert others.items() <= env.items()
    assert not {"VLLM_IMAGE_TAG", "GPU_COUNT"} & env.keys()
    assert list((checkout.root / "elsewhere").iterdir()) == []


def test_a_line_that_readers_would_take_differently_stops_the_launch(checkout: Checkout) -> None:
    outcome = checkout.run("--dry-run", file="PORT=1\r\nVLLM_API_KEY=s3cret # mine\r\n")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.complains_once(f"{checkout.env_file}, line 2: ")
    assert "s3cret" not in outcome.stderr


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "environment"])
def test_secrets_reach_vllm_by_environment_and_nothing_else(checkout: Checkout, place: str) -> None:
    secrets = {"HF_TOKEN": "hf_s3cret1", "VLLM_API_KEY": "s3cret2"}
    file = "".join(f"{name}={value}\n" for name, value in secrets.items())
    file, env = (file, {}) if place == "file" else ("", secrets)
    outcome = checkout.run(file=file, env=env)
    _, arguments, seen = outcome.vllm
    assert secrets.items() <= seen.items()
    assert "s3cret" not in " ".join(arguments) + outcome.stderr
    shown = checkout.run("--dry-run", file=file, env=env)
    assert shown.stdout.count(" set") == 2
    assert "not set" not in shown.stdout
    assert "s3cret" not in shown.stdout + shown.stderr


def test_the_templates_placeholder_is_no_token(checkout: Checkout) -> None:
    outcome = checkout.run(file=(ROOT / ".env.example").read_text())
    assert "HF_TOKEN" not in outcome.vllm[2]
    assert outcome.complains_once("HF_TOKEN", "placeholder")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--api-key s3cret1 s3cret2 -tp 2", "--api-key '***' '***' -tp 2"),
        ("--api-key -1s3cret --seed 0", "--api-key '***' --seed 0"),
        ("--api-key=s3cret x --seed 0", "'--api-key=***' '***' --seed 0"),
        ("--api_k 's3cret with blanks'", "--api_k '***'"),
        ("--hf-token s3cret", "--hf-token '***'"),
        ("--HF_T=s3cret", "'--HF_T=***'"),
        ("--ssl-password s3cret --x.client-secret s3cret", None),
        ("--kv-transfer-config.auth_token s3cret --env AWS_SECRET=s3cret", None),
        ("""--x '{"api_key": "s3cret"}' --y '{"a": {"Password":\n"s3cret"}}'""", None),
        ("--api-server-count 4 --tokenizer org/name --max-num-batched-tokens 8k", "="),
        ("""--x '{"num_speculative_tokens": 3, "method": "ngram"}'""", "="),
    ],
)
def test_a_secret_among_the_extra_arguments_is_masked(
    checkout: Checkout, text: str, shown: str | None
) -> None:
    outcome = checkout.run("--dry-run", env={"EXTRA_ARGS": text})
    assert outcome.status == 0
    assert "s3cret" not in outcome.stdout + outcome.stderr
    if shown:
        assert outcome.stdout.endswith(f" {text if shown == '=' else shown}\n")
    is_known = re.search("--(api[-_]k|hf[-_]t)", text)
    assert outcome.stderr.count("process list") == bool(is_known)


def test_the_printed_command_is_the_one_that_would_run(checkout: Checkout) -> None:
    env = {"MODEL": "naïve-模型", "EXTRA_ARGS": """'it'"'"'s' "" '$x `y`' "a\\"b" \\\\"""}
    command = checkout.run("--dry-run", env=env).stdout.split("\n", 1)[1]
    assert shlex.split(command) == ["vllm", "serve", *checkout.run(env=env).vllm[1]]


# --- values that can't be right ---------------------------------------------------------------


@pytest.mark.parametrize("text", ["--x 's3cret", '--x "s3cret', "s3cret\\"])
def test_an_open_quote_in_the_extra_arguments_is_refused(checkout: Checkout, text: str) -> None:
    outcome = checkout.run(env={"EXTRA_ARGS": text})
    assert outcome.status == 2
    assert outcome.complains_once("EXTRA_ARGS", "quote")
    assert "s3cret" not in outcome.stderr


def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(checkout: Checkout) -> None:
    in_file = checkout.run("--dry-run", file="PORT=abc\n")
    in_shell = checkout.run("--dry-run", file="PORT=1\n", env={"PORT": "abc"})
    assert in_file.status == in_shell.status == 2
    assert in_file.complains_once("PORT=abc ", str(checkout.env_file), "1 to 65535")
    assert in_shell.complains_once("PORT=abc ", "the environment", "1 to 65535")


WRONG = {
    "MODEL": ["--help", "two words"],
    "PORT": ["abc", "0", "65536", "70000", "9" * 20, "-1", "80.0", "80 81", "٣"],
    "GPU_MEM_UTIL": ["0", "0.0", "1.01", "90", "-0.5", "abc", "0.9.0", ".", "1e-1", "90%"],
    "MAX_MODEL_LEN": ["0", "-5", "abc", "4096.5", "k", "0k", "4kk", "1.2.3k"],
    "MAX_NUM_BATCHED_TOKENS": ["0", "auto", "8,192"],
    "MAX_NUM_SEQS": ["0", "-1", "1.5", "many", "16k"],
    "TENSOR_PARALLEL_SIZE": ["0", "two"],
    "STREAM_INTERVAL": ["0", "-1"],
}
RIGHT = {
    "MODEL": ["/models/mine", "org/name-1.5_b"],
    "PORT": ["1", "8000", "59999", "60000", "65535"],
    "GPU_MEM_UTIL": ["1", "1.0", "0.9", "0.92", ".5", "0.05"],
    "MAX_MODEL_LEN": ["1", "4096", "16k", "16K", "25.6k", "auto"],
    "MAX_NUM_BATCHED_TOKENS": ["8192", "8k"],
    "MAX_NUM_SEQS": ["1", "1024"],
    "KV_CACHE_DTYPE": ["auto", "fp8_e5m2", "a-type-of-next-year"],
}


@pytest.mark.parametrize(("values", "right"), [(WRONG, False), (RIGHT, True)])
def test_what_each_setting_may_be(values: dict[str, list[str]], right: bool) -> None:
    for name, examples in values.items():
        pattern = SETTINGS[name][1]
        found = [v for v in examples if re.fullmatch(pattern, v, re.ASCII)]
        assert found == (examples if right else []), name


# --- the tuning guide -------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "TUNING.md").read_text()


def test_the_guide_names_every_flag_that_tunes() -> None:
    flags = {flag for flag, _, _ in SETTINGS.values()} - {"", "--host", "--port"}
    assert len(flags) == 7
    assert {flag for flag in flags if f"`{flag}`" not in GUIDE} == set()


@pytest.mark.parametrize(
    "variables", re.findall(r"^((?:[A-Z_]+=\S+ )+)make server$", GUIDE, re.MULTILINE)
)
def test_the_guides_commands_pass(checkout: Checkout, variables: str) -> None:
    env = dict(word.split("=", 1) for word in shlex.split(variables))
    outcome = checkout.run("--dry-run", env=env)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert all(value in outcome.stdout for value in env.values())
