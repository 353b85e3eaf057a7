"""Which settings a vLLM server has in force, from /server_info: flat, by the names of its flags.

A server tells them in its development mode alone (VLLM_SERVER_DEV_MODE=1). Secrets are dropped:
`model_config.hf_token` is there in clear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..records.text import printable
from ..scenario.secrets import is_secret_key, masked_words
from .literals import pairs

Scalar = str | int | float | bool
MOST_SETTINGS = 200
MOST_TEXT = 200  # characters of a value
MOST_CONFIG = 20_000  # characters of a configuration as text
MOST_NUMBER = 1 << 53  # above it JSON's readers differ
# Sections of `vllm_config`, the most telling first: where two have a setting of one name, the
# first counts.
SECTIONS = (
    *("scheduler_config", "cache_config", "parallel_config", "model_config", "load_config"),
    *("lora_config", "speculative_config"),
)
OF_NO_SECTION = ("performance_mode", "optimization_level", "shutdown_timeout")
# The flag's name, where the section calls it otherwise.
FLAGS = {
    ("scheduler_config", "policy"): "scheduling_policy",
    ("cache_config", "cache_dtype"): "kv_cache_dtype",
    ("speculative_config", "method"): "speculative_method",
    ("speculative_config", "model"): "speculative_model",
}
IN_TEXT = {"max_seq_len": "max_model_len", "device_config": "device"}
# These differ at each start, or say where it runs and not how.
VOLATILE = re.compile(
    r"^_|_(port|ip|addr|hash)$|^(rank|node_rank|data_parallel_(rank\w*|index)|instance_id|worker_cls)$"
)


def in_force(found: Any) -> dict[str, Scalar]:
    """Return the settings in the answer to /server_info, as JSON or, of older servers, as text."""
    config = found.get("vllm_config") if isinstance(found, Mapping) else None
    named = _named(config) if isinstance(config, Mapping) else of_text(str(config or ""))
    whole: dict[str, Scalar] = {}
    for name, value in named:
        whole.setdefault(name, value)
    return dict(list(whole.items())[:MOST_SETTINGS])


def of_text(config: str) -> Iterator[tuple[str, Scalar]]:
    """Yield the settings of a configuration as vLLM prints it: model='x', max_seq_len=4096, ..."""
    for name, value in pairs(config[:MOST_CONFIG]):
        yield from kept(IN_TEXT.get(name, name), value)


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for section in SECTIONS:
        values = config.get(section)
        for key, value in values.items() if isinstance(values, Mapping) else ():
            yield from kept(FLAGS.get((section, key), key), value)
    for key in OF_NO_SECTION:
        yield from kept(key, config.get(key))


def kept(name: object, value: object) -> Iterator[tuple[str, Scalar]]:
    """Yield a setting if it is one: a scalar, no secret, and not other at each start."""
    if isinstance(name, str) and re.fullmatch(r"\w{1,80}", name, re.ASCII):
        if VOLATILE.search(name) or is_secret_key(name):
            return
        if (scalar := scalar_of(value)) is not None:
            yield name, scalar


def scalar_of(value: object) -> Scalar | None:
    """Return a value that a setting may have; None: it is unset, a structure, or out of bounds."""
    if isinstance(value, list | tuple) and len(value) >= 1:
        value = value[0]  # of served names the first, which replies show
    if isinstance(value, str):
        [shown] = masked_words([value[: 4 * MOST_TEXT]])  # a login in a URL
        return printable(shown.removeprefix("torch."), MOST_TEXT) or None
    if isinstance(value, int | float) and abs(value) <= MOST_NUMBER:  # which no NaN is
        return value
    return None
