"""The launcher's variables: each one's flag of vLLM, and what it may be.

Only Python's own modules are needed: server/serve.py runs before any package is there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

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
PLACEHOLDER = "hf_your_"  # how .env.example's HF_TOKEN begins: it counts as not set
OF_COMPOSE = ("VLLM_IMAGE_TAG", "GPU_COUNT")  # vLLM warns of VLLM_ names that it doesn't know
OF_THE_LAUNCHER = ("SIMULATOR", "VLLM_COMMAND")  # what is started; vLLM never sees them
DEFAULT_MODEL = "gpt-oss-20"
# The hub doesn't know this name. The hub's own comes first: replies and metrics show it.
HUBS_OWN = dict.fromkeys((DEFAULT_MODEL, "gpt-oss-20b"), "openai/gpt-oss-20b")
SHORT = {
    "-tp": "tensor_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-dp": "data_parallel_size",
    "-q": "quantization",
    "-O": "optimization_level",
}
SUFFIXES = "kmgt"  # small: powers of 1000, large: of 1024 (vLLM's human_readable_int)


def problem_with(name: str, value: str) -> str | None:
    """Return what is wrong with a variable's value, which isn't empty; None: nothing."""
    if name == "EXTRA_ARGS":
        return _open_quote(value)
    if name not in SETTINGS:
        return None
    _, pattern, allowed = SETTINGS[name]
    return None if re.fullmatch(pattern, value, re.ASCII) else f"must be {allowed}"


def _open_quote(text: str) -> str | None:
    try:
        shlex.split(text)
    except ValueError:
        return "a quote is left open, or a backslash ends it"
    return None


def tokens(text: str) -> int:
    """Return a number of tokens as vLLM reads it: 16k is 16,000, 16K 16,384. Raises ValueError."""
    suffix = text[-1:].lower()
    if suffix not in SUFFIXES or not suffix:
        return int(text)
    power: int = SUFFIXES.index(suffix) + 1
    if text[-1].islower():
        return int(float(text[:-1]) * 10 ** (3 * power))
    return int(text[:-1]) << 10 * power


def meant(name: str, value: str) -> str:
    """Return a variable's value as the launcher takes it: vLLM has no fp16 for the KV cache."""
    return "auto" if name == "KV_CACHE_DTYPE" and value.lower() == "fp16" else value


def asked_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what vLLM is asked for, by its names (max_num_seqs), flags without a value as True.

    EXTRA_ARGS comes last, as on the command line: the last of a flag wins. Raises ValueError
    where a quote in it is left open.
    """
    given = {name: meant(name, environ[name]) for name in SETTINGS if environ.get(name)}
    model = given.pop("MODEL", DEFAULT_MODEL)
    found = {"model": HUBS_OWN.get(model, model)}
    found |= {SETTINGS[name][0][2:].replace("-", "_"): value for name, value in given.items()}
    return found | flags_in(shlex.split(environ.get("EXTRA_ARGS", "")))


def flags_in(words: list[str]) -> dict[str, str]:
    """Return the flags of a command line with their values, by vLLM's names for them."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        flag = re.match(r"(--[A-Za-z][\w.-]*|-[A-Za-z]+)(=(.*))?$", word, re.DOTALL)
        if flag:
            name = SHORT.get(flag[1]) or flag[1].lstrip("-").replace("-", "_")
            values = found[name] = [flag[3]] if flag[2] else []
        else:
            values.append(word)
    named = {name: " ".join(values) if values else "True" for name, values in found.items()}
    return dict(_unnegated(name, value) for name, value in named.items())


def _unnegated(name: str, value: str) -> tuple[str, str]:
    """Return `enable_x`, False for a flag `--no-enable-x`."""
    return (name[3:], "False") if name.startswith("no_") and value == "True" else (name, value)
