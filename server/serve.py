#!/usr/bin/env python3
"""Start vLLM with the settings of the environment and of .env; the environment comes first.

    ./server/run_server.sh --dry-run     show the command, secrets masked, and start nothing

EXTRA_ARGS has further arguments of vLLM, quoted as for a shell. The secrets HF_TOKEN and
VLLM_API_KEY reach vLLM through its environment, never on the command line; so do all other
variables in .env. An empty variable counts as not set. .env.example explains each. Allowed values:
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.env_file import load_env_file
from vllm_bench.errors import UsageError
from vllm_bench.scenario.secrets import masked_words
from vllm_bench.script import run

ENV_FILE = Path(__file__).resolve().parents[1] / ".env"
PORT = r"(?=.*[1-9])([0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
FRACTION = r"(?=.*[1-9])0?\.\d+|1(\.0*)?"
TOKENS = r"(?=.*[1-9])\d+((\.\d+)?[kKmMgGtT])?"
COUNT = r"(?=.*[1-9])\d+"
# Each variable's flag, and what it may be: as a pattern, and in words.
SETTINGS = {
    "MODEL": ("", r"[^-\s]\S*", "a model's name or folder, without blanks"),
    "HOST": ("--host", r"\S+", "an address"),
    "PORT": ("--port", PORT, "a number from 1 to 65535"),
    "GPU_MEM_UTIL": ("--gpu-memory-utilization", FRACTION, "a fraction above 0, up to 1"),
    "MAX_MODEL_LEN": ("--max-model-len", TOKENS + "|auto", "tokens, such as 4096 or 16k, or auto"),
    "KV_CACHE_DTYPE": ("--kv-cache-dtype", r"\S+", "auto, or a type such as fp8"),
    "MAX_NUM_BATCHED_TOKENS": ("--max-num-batched-tokens", TOKENS, "tokens, such as 8192 or 16k"),
    "MAX_NUM_SEQS": ("--max-num-seqs", COUNT, "a whole number above 0"),
    "TENSOR_PARALLEL_SIZE": ("--tensor-parallel-size", COUNT, "a whole number above 0"),
    "STREAM_INTERVAL": ("--stream-interval", COUNT, "a whole number above 0"),
}
SECRETS = ("HF_TOKEN", "VLLM_API_KEY")
OF_COMPOSE = ("VLLM_IMAGE_TAG", "GPU_COUNT")  # vLLM warns of VLLM_ names that it doesn't know


def main() -> int:
    """Read .env, check, and show the command or become it."""
    flags = set(sys.argv[1:])
    if flags & {"-h", "--help"}:
        return _help()
    if flags - {"--dry-run"}:
        _complain("only --dry-run and --help are known; vLLM's own flags go into EXTRA_ARGS")
        return 2
    try:
        command = _command(load_env_file(ENV_FILE, os.environ))
    except UsageError as e:
        _complain(e)
        return 2
    if flags:
        return _show(command)
    if not shutil.which("vllm"):
        _complain("no vllm on the PATH: pip install vllm, or docker-compose up in server/")
        return 1
    return os.execvp("vllm", command)


def _command(from_file: set[str]) -> list[str]:
    """Return vLLM's command line, and leave the rest to the environment. Raises UsageError."""
    _tidy_environment(from_file)
    given = _settings(from_file)
    model = given.pop("MODEL", "gpt-oss-20")
    names = [model]
    if model in ("gpt-oss-20", "gpt-oss-20b"):
        # The hub doesn't know this name. The hub's own comes first: replies and metrics show it.
        hub = "openai/gpt-oss-20b"
        names = [hub, "--served-model-name", hub, model]
    flags = [word for name, value in given.items() for word in (SETTINGS[name][0], value)]
    return ["vllm", "serve", *names, *flags, *_extra_arguments()]  # the last of a flag wins


def _tidy_environment(from_file: set[str]) -> None:
    for name in from_file.intersection(OF_COMPOSE):
        del os.environ[name]
    if os.environ.get("HF_TOKEN", "").startswith("hf_your_"):
        _complain("HF_TOKEN is still the placeholder of .env.example: going on without a token")
        del os.environ["HF_TOKEN"]
    if os.environ.get("KV_CACHE_DTYPE", "").lower() == "fp16":
        _complain("KV_CACHE_DTYPE: vLLM has no fp16; using auto, the model's own 16-bit type")
        os.environ["KV_CACHE_DTYPE"] = "auto"
    for name in SECRETS:
        if not os.environ.get(name):
            os.environ.pop(name, None)


def _settings(from_file: set[str]) -> dict[str, str]:
    """Return the settings that are given. Raises UsageError."""
    given = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    for name, value in given.items():
        _, pattern, allowed = SETTINGS[name]
        if not re.fullmatch(pattern, value, re.ASCII):
            where = ENV_FILE if name in from_file else "the environment"
            raise UsageError(f"{name}={value} (from {where}): must be {allowed}")
    return given


def _extra_arguments() -> list[str]:
    try:
        words = shlex.split(os.environ.get("EXTRA_ARGS", ""))
    except ValueError:  # whose text is left out: no part of a value is shown
        raise UsageError("EXTRA_ARGS: a quote is left open, or a backslash ends it") from None
    if any(re.match("--(api[-_]k|hf[-_]t)", word) for word in words):
        _complain("EXTRA_ARGS shows its secret in the process list: set VLLM_API_KEY or HF_TOKEN")
    return words


def _show(command: list[str]) -> int:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    stated = (f"{name} {'set' if name in os.environ else 'not set'}" for name in SECRETS)
    print("# by environment, not on the command line:", ", ".join(stated))
    print(shlex.join(masked_words(command)))
    return 0


def _help() -> int:
    rows = (f"  {name:24}{flag:26}{words}" for name, (flag, _, words) in SETTINGS.items())
    print(__doc__, *rows, sep="\n")
    return 0


def _complain(problem: object) -> None:
    print(f"run_server.sh: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
