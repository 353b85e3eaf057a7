#!/usr/bin/env python3
"""Start vLLM with the settings of the environment and of .env; the environment comes first.

    ./server/run_server.sh --dry-run     show the command, secrets masked, and start nothing

SIMULATOR=tiny-cpu starts the simulator with that profile in the place of vLLM, with the same
settings; VLLM_COMMAND=PATH another build of vLLM (the `vllm` of its environment).
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
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.env_file import load_env_file
from vllm_bench.errors import UsageError
from vllm_bench.launcher import (
    DEFAULT_MODEL,
    HUBS_OWN,
    OF_COMPOSE,
    OF_THE_LAUNCHER,
    PLACEHOLDER,
    SECRETS,
    SETTINGS,
    meant,
    problem_with,
    tokens,
)
from vllm_bench.scenario.secrets import masked_words
from vllm_bench.script import run

SERVER = Path(__file__).resolve().parent
ENV_FILE = SERVER.parent / ".env"


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
    if not shutil.which(command[0]):
        _complain(_missing(command[0]))
        return 1
    return os.execvp(command[0], command)


def _command(from_file: set[str]) -> list[str]:
    """Return the command line, and leave the rest to the environment. Raises UsageError."""
    _tidy_environment(from_file)
    given = _settings(from_file)
    model = given.pop("MODEL", DEFAULT_MODEL)
    names = [HUBS_OWN.get(model, model)]
    if model in HUBS_OWN:
        names += ["--served-model-name", HUBS_OWN[model], model]
    profile, program = (os.environ.pop(name, None) for name in OF_THE_LAUNCHER)
    if profile:
        if program:
            raise UsageError("SIMULATOR and VLLM_COMMAND are both set: one server is started")
        begin = [*_simulator(profile, given), "--model", *names]
    else:
        begin = [program or "vllm", "serve", *names]
    flags = [word for name, value in given.items() for word in (SETTINGS[name][0], value)]
    return [*begin, *flags, *_extra_arguments()]  # the last of a flag wins


def _simulator(profile: str, given: dict[str, str]) -> list[str]:
    """Return how the simulator begins, and turn settings into its kind. Raises UsageError."""
    profiles = _profiles()
    if profile not in profiles:
        raise UsageError(f"SIMULATOR={profile}: must be one of {', '.join(profiles)}")
    if given.pop("TENSOR_PARALLEL_SIZE", "1") != "1":
        raise UsageError("TENSOR_PARALLEL_SIZE: the simulator has one GPU: leave it out, or set 1")
    for name in ("MAX_MODEL_LEN", "MAX_NUM_BATCHED_TOKENS"):
        if name in given:
            given[name] = _whole_tokens(name, given[name])
    return [_python(), str(SERVER / "simulator.py"), "--profile", profile]


def _profiles() -> list[str]:
    sys.path.append(str(SERVER))
    from sim.engine.profiles import PROFILES

    return list(PROFILES)


def _whole_tokens(name: str, value: str) -> str:
    if value == "auto":
        raise UsageError(f"{name}=auto: the simulator takes a number of tokens, such as 4096")
    try:
        return str(tokens(value))
    except ValueError:
        raise UsageError(f"{name}={value}: K, M, G and T take whole numbers; k is 1000") from None


def _python() -> str:
    """Return this interpreter if it has the simulator's packages, else that of `make install`."""
    made = SERVER.parent / ".venv" / "bin" / "python"
    return str(made) if find_spec("uvloop") is None and made.exists() else sys.executable


def _missing(program: str) -> str:
    if program == "vllm":
        return "no vllm on the PATH: pip install vllm, or docker-compose up in server/"
    return f"VLLM_COMMAND={program}: there is no such program"


def _tidy_environment(from_file: set[str]) -> None:
    for name in from_file.intersection(OF_COMPOSE):
        del os.environ[name]
    if os.environ.get("HF_TOKEN", "").startswith(PLACEHOLDER):
        _complain("HF_TOKEN is still the placeholder of .env.example: going on without a token")
        del os.environ["HF_TOKEN"]
    dtype = os.environ.get("KV_CACHE_DTYPE", "")
    if dtype and meant("KV_CACHE_DTYPE", dtype) != dtype:
        _complain("KV_CACHE_DTYPE: vLLM has no fp16; using auto, the model's own 16-bit type")
        os.environ["KV_CACHE_DTYPE"] = meant("KV_CACHE_DTYPE", dtype)
    # vLLM reads an empty VLLM_SERVER_DEV_MODE, say, as a number, and fails.
    for name in [n for n, value in os.environ.items() if not value]:
        if name.startswith(("VLLM_", "HF_")):
            del os.environ[name]


def _settings(from_file: set[str]) -> dict[str, str]:
    """Return the settings that are given. Raises UsageError."""
    given = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    for name, value in given.items():
        if problem := problem_with(name, value):
            where = ENV_FILE if name in from_file else "the environment"
            raise UsageError(f"{name}={value} (from {where}): {problem}")
    return given


def _extra_arguments() -> list[str]:
    given = os.environ.get("EXTRA_ARGS", "")
    if problem := problem_with("EXTRA_ARGS", given):  # no part of a value is shown
        raise UsageError(f"EXTRA_ARGS: {problem}")
    words = shlex.split(given)
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
