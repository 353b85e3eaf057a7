"""server/run_server.sh: run under each shell that is here, with a `vllm` that only tells."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "server" / "run_server.sh"
TOOLS = ("awk", "cat", "dirname")
ALIAS = ["openai/gpt-oss-20b", "--served-model-name", "openai/gpt-oss-20b", "gpt-oss-20"]


def shells() -> list[list[str]]:
    """The shells of this machine, each once: `sh` is one of the others."""
    kinds = (["dash"], ["bash", "--posix"], ["busybox", "sh"])
    here = [kind for kind in kinds if shutil.which(kind[0])]
    names = {Path(shutil.which(kind[0]) or "").resolve() for kind in here}
    return here if Path(shutil.which("sh") or "").resolve() in names else [["sh"], *here]


SHELLS = shells()

FAKE_VLLM = f"""#!{sys.executable} -IS
import json, os, sys
print(json.dumps({{
    "pid": os.getpid(),
    "argv": [os.fsencode(a).decode() for a in sys.argv[1:]],
    "env": {{k.decode(): v.decode() for k, v in os.environb.items()}},
}}))
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one start of the script."""

    pid: int
    status: int
    stdout: str
    stderr: str

    @property
    def told(self) -> dict[str, object]:
        told = json.loads(self.stdout)
        assert isinstance(told, dict)
        return told

    @property
    def argv(self) -> list[str]:
        """What vllm was given after `serve`."""
        words = self.told["argv"]
        assert isinstance(words, list)
        assert words[0] == "serve"
        return words[1:]

    @property
    def env(self) -> dict[str, str]:
        env = self.told["env"]
        assert isinstance(env, dict)
        return env


@dataclass(frozen=True)
class Checkout:
    """A copy of the script in a tree of its own, with a folder of programs for the PATH."""

    root: Path
    shell: tuple[str, ...] = ("sh",)

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def dotenv(self) -> Path:
        return self.root / ".env"

    def run(
        self, *arguments: str, dotenv: str | None = None, env: Mapping[str, str] | None = None
    ) -> Outcome:
        """Start the script beside a .env of this text, or beside none."""
        self.dotenv.unlink(missing_ok=True)
        if dotenv is not None:
            self.dotenv.write_bytes(dotenv.encode())
        return self.start(*arguments, env=env)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
        with subprocess.Popen(
            [*self.shell, str(self.root / "server" / "run_server.sh"), *arguments],
            env={"PATH": str(self.bin), **(env or {})},
            cwd=self.root / "elsewhere",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            stdout, stderr = process.communicate(timeout=60)
        return Outcome(process.pid, process.returncode, stdout.decode(), stderr.decode())


def make_checkout(root: Path, shell: list[str]) -> Checkout:
    for folder in ("server", "bin", "elsewhere"):
        (root / folder).mkdir()
    shutil.copy(SCRIPT, root / "server")
    for program in (*TOOLS, shell[0]):
        found = shutil.which(program)
        assert found, f"{program} is missing on this machine"
        (root / "bin" / program).symlink_to(found)
    fake = root / "bin" / "vllm"
    fake.write_text(FAKE_VLLM)
    fake.chmod(0o755)
    return Checkout(root, (str(root / "bin" / shell[0]), *shell[1:]))


@pytest.fixture(scope="module", params=SHELLS, ids=" ".join)
def checkout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("a checkout"), request.param)


def one_line(outcome: Outcome, *parts: str) -> bool:
    """Whether stderr is one line that holds all of parts."""
    return outcome.stderr.count("\n") == 1 and all(part in outcome.stderr for part in parts)


# --- the command ------------------------------------------------------------------------------


def test_nothing_set_serves_the_default_model_and_leaves_the_rest_to_vllm(
    checkout: Checkout,
) -> None:
    outcome = checkout.run()
    assert outcome.argv == ALIAS
    assert outcome.stderr == ""


def test_every_setting_becomes_its_flag(checkout: Checkout) -> None:
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
        "EXTRA_ARGS": "--seed 0",
    }
    assert checkout.run(env=env).argv == shlex.split(
        "org/model --host 127.0.0.1 --port 8001 --gpu-memory-utilization 0.85"
        " --max-model-len 4096 --kv-cache-dtype fp8 --max-num-batched-tokens 8192"
        " --max-num-seqs 128 --tensor-parallel-size 2 --stream-interval 20 --seed 0"
    )


@pytest.mark.parametrize("name", ["gpt-oss-20", "gpt-oss-20b"])
def test_the_short_name_is_the_hubs_and_both_are_served(checkout: Checkout, name: str) -> None:
    assert checkout.run(env={"MODEL": name}).argv == [*ALIAS[:3], name]


@pytest.mark.parametrize("name", ["fp16", "FP16"])
def test_fp16_becomes_auto_and_a_line_says_why(checkout: Checkout, name: str) -> None:
    outcome = checkout.run(env={"KV_CACHE_DTYPE": name})
    assert outcome.argv == [*ALIAS, "--kv-cache-dtype", "auto"]
    assert one_line(outcome, f"KV_CACHE_DTYPE={name}", "no such type", "auto")


def test_vllm_replaces_the_shell_so_that_signals_reach_it(checkout: Checkout) -> None:
    outcome = checkout.run()
    assert outcome.told["pid"] == outcome.pid


def test_without_vllm_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path, SHELLS[0])
    (checkout.bin / "vllm").unlink()
    outcome = checkout.run()
    assert outcome.status == 1
    assert one_line(outcome, "pip install vllm", "docs.vllm.ai", "docker-compose up")
    assert checkout.run("--dry-run").status == 0


def test_an_unknown_argument_is_refused_in_one_line(checkout: Checkout) -> None:
    outcome = checkout.run("--port")
    assert outcome.status == 2
    assert one_line(outcome, "--port", "--dry-run", "EXTRA_ARGS")


def test_help_names_its_own_two_arguments(checkout: Checkout) -> None:
    outcome = checkout.run("--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "--dry-run" in outcome.stdout


# --- precedence -------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="MODEL=file\nPORT=9000\n", env={"MODEL": "shell"})
    assert outcome.argv == ["shell", "--port", "9000"]


def test_a_variable_emptied_in_the_environment_hides_the_files(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="MODEL=file\nPORT=9000\n", env={"MODEL": "", "PORT": ""})
    assert outcome.argv == ALIAS


def test_an_empty_value_in_the_file_is_not_given(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="MODEL=\nPORT=''\nHF_HOME=\nVLLM_API_KEY=\"\"\nHF_TOKEN=\n")
    assert outcome.argv == ALIAS
    assert not {"HF_HOME", "VLLM_API_KEY", "HF_TOKEN"} & outcome.env.keys()


def test_the_later_of_two_lines_wins(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="MODEL=first\nPORT=9000\nMODEL=second\nPORT=\n")
    assert outcome.argv == ["second"]


def test_a_value_with_lines_in_the_environment_hides_no_name(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="PORT=9000\n", env={"OTHER": "x\nPORT=1\ny"})
    assert outcome.argv == [*ALIAS, "--port", "9000"]


def test_other_variables_of_the_file_reach_vllm(checkout: Checkout) -> None:
    text = "HF_HOME=/data/hf\nVLLM_LOGGING_LEVEL=DEBUG\nhttps_proxy=http://proxy:3128\n"
    env = checkout.run(dotenv=text).env
    assert env["HF_HOME"] == "/data/hf"
    assert env["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert env["https_proxy"] == "http://proxy:3128"


def test_what_only_compose_reads_stays_out_of_vllms_environment(checkout: Checkout) -> None:
    env = checkout.run(dotenv="VLLM_IMAGE_TAG=v0.33.0\nGPU_COUNT=2\n").env
    assert not {"VLLM_IMAGE_TAG", "GPU_COUNT"} & env.keys()


# --- the lines of .env ------------------------------------------------------------------------

LINES = [
    "MODEL=plain",
    "MODEL = spaced around ",
    "\tMODEL=indented",
    "export MODEL=exported",
    "export\tMODEL = both ",
    "MODEL=value # comment",
    "MODEL=value\t# comment",
    "MODEL=a#b",
    "MODEL=#b",
    "MODEL=it's \"bare\" 'quotes'",
    "MODEL='single # quoted'",
    'MODEL="double # quoted"',
    "MODEL='quoted' # comment",
    "MODEL='quoted'#comment",
    "MODEL=''",
    'MODEL=""',
    "MODEL=",
    "MODEL=a=b=c",
    "MODEL='a\\'b\\\\c\\d'",
    'MODEL="a\\"b\\\\c\\td\\x"',
    "MODEL=back\\slash",
    "MODEL=${HOME}$(id)`id`;id",
    "\n\n# a comment\n   # another\nMODEL=after",
    "MODEL=crlf\r\nOTHER=x\r\n",
    "MODEL='crlf'\r\nOTHER='x' # c\r\n",
    "\ufeffMODEL=after a byte-order mark",
    "MODEL=naïve-模型-🦙",
]


@pytest.mark.parametrize("text", LINES)
def test_a_line_means_what_python_dotenv_takes_it_for(checkout: Checkout, text: str) -> None:
    """The benchmark reads the same file with python-dotenv."""
    theirs = dotenv_values(stream=io.StringIO(text.lstrip("\ufeff")), interpolate=False)
    # Under a name of no meaning, since a model with a blank would be refused.
    outcome = checkout.run(dotenv=text.replace("MODEL", "V_1"))
    assert outcome.env.get("V_1", "") == theirs["MODEL"]
    assert outcome.stderr == ""


single_line = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=30
) | st.text(st.sampled_from("'\"\\$`;#= \tan{}()"), max_size=12)


def single_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def double_quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


fixture_is_shared = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fixture_is_shared
@given(values=st.lists(single_line.filter(bool), min_size=1, max_size=8))
def test_a_quoted_value_reaches_the_server_unchanged(checkout: Checkout, values: list[str]) -> None:
    expected, lines = {}, []
    for number, value in enumerate(values):
        for kind, quoted in (("S", single_quoted), ("D", double_quoted)):
            expected[f"V_{kind}{number}"] = value
            lines.append(f"V_{kind}{number}={quoted(value)}")
    outcome = checkout.run(dotenv="\n".join(lines))
    assert outcome.stderr == ""
    assert {name: outcome.env[name] for name in expected} == expected


@pytest.mark.parametrize(
    "value",
    [
        "$(touch ran)",
        "`touch ran`",
        "x; touch ran",
        "x && touch ran",
        "x\rtouch ran",
        "<(touch ran)",
    ],
)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_value_is_never_executed(checkout: Checkout, value: str, quote: str) -> None:
    touch = shutil.which("touch")
    assert touch
    value = value.replace("touch", touch)
    text = "".join(f"{n}={quote}{value}{quote}\n" for n in ("V_1", "EXTRA_ARGS", "VLLM_API_KEY"))
    outcome = checkout.run(dotenv=text)
    assert outcome.env["V_1"] == value
    assert list((checkout.root / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "VLLM_API_KEY s3cret",
        "VLLM_API_KEY: s3cret",
        "s3cret",
        "VLLM_API_KEY='s3cret",
        'VLLM_API_KEY="s3cret',
        "VLLM_API_KEY='s3cret' trailing",
        "1VLLM=s3cret",
        "VLLM-API-KEY=s3cret",
        "vllm_api_key=s3cret",
        "=s3cret",
    ],
)
def test_a_malformed_line_is_named_by_number_without_its_text(
    checkout: Checkout, line: str
) -> None:
    outcome = checkout.run(dotenv=f"# first\n{line}\nPORT=9000\n")
    assert one_line(outcome, f"{checkout.dotenv}, line 2:", "left out")
    assert "s3cret" not in outcome.stdout + outcome.stderr
    assert outcome.argv == [*ALIAS, "--port", "9000"]


@pytest.mark.parametrize("name", ["IFS", "PPID", "UID", "OPTIND", "BASHOPTS"])
def test_a_variable_of_the_shells_own_is_left_out(checkout: Checkout, name: str) -> None:
    outcome = checkout.run(dotenv=f"{name}=x\nMODEL=org/model\n")
    assert outcome.argv == ["org/model"]
    assert one_line(outcome, f"line 1: {name} belongs to the shell")


def test_a_comment_in_place_of_a_value_is_empty_and_said_to_be(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv="VLLM_API_KEY= # the key\n")
    assert one_line(outcome, "line 1", "VLLM_API_KEY", "taken as empty")
    assert "VLLM_API_KEY" not in outcome.env


def test_no_file_is_fine(checkout: Checkout) -> None:
    assert checkout.run().argv == ALIAS


def test_a_link_to_nothing_is_fine(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path, SHELLS[0])
    checkout.dotenv.symlink_to("nowhere")
    assert checkout.start().argv == ALIAS


def test_a_folder_in_the_files_place_is_refused_in_one_line(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path, SHELLS[0])
    checkout.dotenv.mkdir()
    outcome = checkout.start()
    assert outcome.status == 1
    assert one_line(outcome, str(checkout.dotenv), "make init-env")


# --- EXTRA_ARGS -------------------------------------------------------------------------------


@fixture_is_shared
@given(words=st.lists(single_line, max_size=6), blank=st.sampled_from([" ", "\t", "  ", "\n"]))
def test_extra_arguments_split_as_a_shell_splits_them(
    checkout: Checkout, words: list[str], blank: str
) -> None:
    mixed = [(shlex.quote, double_quoted)[number % 2](word) for number, word in enumerate(words)]
    outcome = checkout.run(env={"EXTRA_ARGS": blank.join(mixed)})
    assert outcome.argv == [*ALIAS, *words]


@pytest.mark.parametrize(
    "text",
    [
        "a  b",
        " a ",
        "a\\ b",
        "a'b c'd",
        '"a\\b" "a\\\\b" "a\\"b"',
        "'' a \"\"",
        "--x '{\"a\": [1, 2]}'",
        "* ~ $HOME",
    ],
)
def test_extra_arguments_split_as_shlex_splits(checkout: Checkout, text: str) -> None:
    assert checkout.run(env={"EXTRA_ARGS": text}).argv == [*ALIAS, *shlex.split(text)]


@pytest.mark.parametrize("text", ["--x 's3cret", '--x "s3cret', "s3cret\\"])
def test_an_open_quote_is_refused_in_one_line(checkout: Checkout, text: str) -> None:
    outcome = checkout.run(env={"EXTRA_ARGS": text})
    assert outcome.status == 2
    assert one_line(outcome, "EXTRA_ARGS", "left open")
    assert "s3cret" not in outcome.stderr


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "environment"])
def test_secrets_reach_vllm_by_environment_and_nothing_else(checkout: Checkout, place: str) -> None:
    secrets = {"HF_TOKEN": "hf_s3cret1", "VLLM_API_KEY": "s3cret2"}
    text = "".join(f"{name}={value}\n" for name, value in secrets.items())
    dotenv, env = (text, {}) if place == "file" else (None, secrets)
    outcome = checkout.run(dotenv=dotenv, env=env)
    assert {name: outcome.env[name] for name in secrets} == secrets
    assert "s3cret" not in " ".join(outcome.argv) + outcome.stderr
    shown = checkout.run("--dry-run", dotenv=dotenv, env=env)
    assert "s3cret" not in shown.stdout + shown.stderr
    assert "HF_TOKEN set, VLLM_API_KEY set" in shown.stdout


def test_an_empty_secret_is_no_secret(checkout: Checkout) -> None:
    env = checkout.run(env={"HF_TOKEN": "", "VLLM_API_KEY": ""}).env
    assert not {"HF_TOKEN", "VLLM_API_KEY"} & env.keys()


def test_the_templates_placeholder_is_no_token(checkout: Checkout) -> None:
    outcome = checkout.run(dotenv=(ROOT / ".env.example").read_text())
    assert "HF_TOKEN" not in outcome.env
    assert one_line(outcome, "HF_TOKEN", "placeholder")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--api-key s3cret1 s3cret2 --seed 0", "--api-key '***' '***' --seed 0"),
        ("--api-key=s3cret --seed 0", "'--api-key=***' --seed 0"),
        ("--api_key 's3cret with blanks' -tp 2", "--api_key '***' -tp 2"),
        ("--hf-token s3cret", "--hf-token '***'"),
    ],
)
def test_a_secret_among_the_extra_arguments_is_masked_and_warned_of(
    checkout: Checkout, text: str, shown: str
) -> None:
    outcome = checkout.run("--dry-run", env={"EXTRA_ARGS": text})
    assert outcome.stdout.endswith(f" {shown}\n")
    assert one_line(outcome, "process list", "instead of")
    assert "s3cret" not in outcome.stdout + outcome.stderr


def test_a_flag_that_only_looks_like_a_secret_is_shown(checkout: Checkout) -> None:
    outcome = checkout.run("--dry-run", env={"EXTRA_ARGS": "--api-server-count 4"})
    assert outcome.stdout.endswith(" --api-server-count 4\n")
    assert outcome.stderr == ""


# --- --dry-run --------------------------------------------------------------------------------


@fixture_is_shared
@given(words=st.lists(single_line.filter(lambda w: not w.startswith("--")), max_size=6))
def test_the_printed_command_reads_back_as_the_words_that_would_run(
    checkout: Checkout, words: list[str]
) -> None:
    outcome = checkout.run("--dry-run", env={"EXTRA_ARGS": shlex.join(words)})
    assert outcome.status == 0
    command = outcome.stdout.split("\n", 1)[1]
    assert shlex.split(command) == ["vllm", "serve", *ALIAS, *words]


# --- values that can't be right ---------------------------------------------------------------

WRONG = [
    ("PORT", ["abc", "0", "65536", "99999999999999999999", "-1", "80.0", "80 81"]),
    ("GPU_MEM_UTIL", ["0", "0.0", "1.01", "90", "-0.5", "abc", "0.9.0", ".", "1e-1", "90%"]),
    ("MAX_MODEL_LEN", ["0", "-5", "abc", "4096.5", "k", "4kk", "1.2.3k"]),
    ("MAX_NUM_BATCHED_TOKENS", ["0", "auto", "8,192"]),
    ("MAX_NUM_SEQS", ["0", "-1", "1.5", "many", "16k"]),
    ("TENSOR_PARALLEL_SIZE", ["0", "two"]),
    ("STREAM_INTERVAL", ["0", "-1"]),
    ("MODEL", ["--help", "two words"]),
]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG for v in values])
def test_a_wrong_value_is_refused_with_its_name_its_place_and_what_is_allowed(
    checkout: Checkout, name: str, value: str
) -> None:
    outcome = checkout.run("--dry-run", dotenv=f"{name}='{value}'\n")
    assert outcome.status == 2
    assert one_line(outcome, f"{name}={value} ", f"from {checkout.dotenv}", "must be ")
    assert "from the environment" in checkout.run(dotenv="A=1\n", env={name: value}).stderr


RIGHT = [
    ("PORT", ["1", "8000", "65535"]),
    ("GPU_MEM_UTIL", ["1", "1.0", "0.9", "0.92", ".5", "0.05"]),
    ("MAX_MODEL_LEN", ["1", "4096", "16k", "16K", "25.6k", "auto"]),
    ("MAX_NUM_BATCHED_TOKENS", ["8192", "8k"]),
    ("MAX_NUM_SEQS", ["1", "1024"]),
    ("MODEL", ["/models/mine", "org/name-1.5_b"]),
    ("KV_CACHE_DTYPE", ["auto", "fp8_e5m2", "a-type-of-next-year"]),
]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in RIGHT for v in values])
def test_a_right_value_passes_as_it_is(checkout: Checkout, name: str, value: str) -> None:
    outcome = checkout.run(env={name: value})
    assert outcome.status == 0
    assert value in outcome.argv


# --- the tuning guide -------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "TUNING.md").read_text()
GUIDES_COMMANDS = re.findall(r"^((?:[A-Z_]+=\S+ )+)make server$", GUIDE, re.MULTILINE)


def test_the_guide_names_every_flag_that_tunes() -> None:
    flags = set(re.findall(r'"\$@" (--[a-z-]+) "', SCRIPT.read_text())) - {"--host", "--port"}
    assert len(flags) == 7
    assert {flag for flag in flags if f"`{flag}`" not in GUIDE} == set()


@pytest.mark.parametrize("variables", GUIDES_COMMANDS)
def test_the_guides_commands_pass_the_launchers_checks(checkout: Checkout, variables: str) -> None:
    env = dict(word.split("=", 1) for word in shlex.split(variables))
    outcome = checkout.run("--dry-run", env=env)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert all(value in outcome.stdout for value in env.values())


# --- the file itself --------------------------------------------------------------------------


def test_the_script_can_be_executed() -> None:
    assert SCRIPT.stat().st_mode & stat.S_IXUSR
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")


def test_the_script_evaluates_and_sources_nothing() -> None:
    code = [line.split(" #")[0] for line in SCRIPT.read_text().splitlines()]
    words = {word for line in code if not line.lstrip().startswith("#") for word in line.split()}
    assert not words & {"eval", ".", "source"}


def test_shellcheck_has_nothing_to_say() -> None:
    beside_python = Path(sys.executable).parent / "shellcheck"
    shellcheck = str(beside_python) if beside_python.exists() else shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("no shellcheck: pip install -r requirements-dev.txt brings it")
    done = subprocess.run(
        [shellcheck, "--shell=sh", os.fspath(SCRIPT)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
