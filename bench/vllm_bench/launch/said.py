"""Which settings a server says are in force: by /server_info, else by its log and /metrics.

What a log tells: `non-default args: {...}`, exactly what was passed; the engine's line, some of
what follows from it; and how many tokens the KV cache holds. Defaults of vLLM that depend on the
GPU (max_num_seqs, max_num_batched_tokens) are in /server_info alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..scenario.secrets import masked_settings
from ..vllm.in_force import MOST_SETTINGS, MOST_TEXT, Scalar, kept, of_text
from ..vllm.literals import entries, pairs, value_of
from ..vllm.server import LIMIT_S, ControlError, Server
from .log import MOST_LINE

HEAD_BYTES = 4 << 20  # of a log: what is told of settings stands at its beginning
SOURCE = "told_by"  # the key that says where a setting was read
PASSED = re.compile(r"non-default args: (\{.*\})|\bargs: Namespace\((.*)\)")
ENGINE = re.compile(r"Initializing an? (?:V\d )?LLM engine \(v?([^)\s]+)\) with config: (.*)")
KV_TOKENS = re.compile(r"KV cache size: ([\d,]{1,20}) tokens")
MOST_REQUESTS = re.compile(
    r"Maximum concurrency for [\d,]+ tokens per request: (\d{1,12}(?:\.\d{1,12})?)x"
)
BLOCKS = re.compile(r"# (?:GPU|CPU|CUDA|cuda|cpu) blocks: (\d{1,12})")
BUDGET = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d{1,12})")
NOT_ABOUT_SPEED = re.compile(
    r"^(subparser|dispatch_function|command|config|host|port|uds|root_path|ssl_\w+|allow\w*"
    r"|allowed_\w+|middleware|log_\w+|uvicorn_\w+|disable_\w*log\w*|chat_template\w*|response_role"
    r"|download_dir|revision|\w+_revision|model_weights)$"
)
# Labels of vllm:cache_config_info, and the flags that they tell.
LABELS = {
    **{"gpu_memory_utilization": "gpu_memory_utilization", "cache_dtype": "kv_cache_dtype"},
    **{"enable_prefix_caching": "enable_prefix_caching", "block_size": "block_size"},
    **{"num_gpu_blocks": "num_gpu_blocks", "kv_cache_size_tokens": "kv_cache_size_tokens"},
    "kv_cache_max_concurrency": "kv_cache_max_concurrency",
}


def said(server: Server, log: Path | None = None) -> dict[str, Scalar]:
    """Return what is in force, by the names of vLLM's flags; secrets aren't in it.

    `told_by` is server_info, log or metrics: where most of it was read. `kv_cache_size_tokens` and
    `kv_cache_max_concurrency` are the tokens and the most concurrent requests of full length.
    """
    told = server.settings(LIMIT_S)
    logged = from_log(_head(log)) if log is not None else {}
    seen = {**_from_metrics(server), **_from_models(server)}
    source = "server_info" if told else "log" if logged else "metrics"
    return {SOURCE: source, **seen, **logged, **(told or {})}


def from_log(text: str) -> dict[str, Scalar]:
    """Return the settings that a log tells: of what was passed, else of the engine's own line."""
    passed: dict[str, Scalar] = {}
    engine: dict[str, Scalar] = {}
    for line in re.split(r"[\r\n]+", text):
        short = line[:MOST_LINE]
        if not passed and (found := PASSED.search(short)):
            passed = _bounded(entries(found[1]) if found[1] else pairs(found[2]))
        elif not engine and (found := ENGINE.search(short)):
            engine |= {"version": found[1][:MOST_TEXT], **_bounded(of_text(found[2]))}
        else:
            engine |= _figures(short)
    return {**engine, **passed}


def _figures(line: str) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    if tokens := KV_TOKENS.search(line):
        found["kv_cache_size_tokens"] = int(tokens[1].replace(",", "") or 0)
    if most := MOST_REQUESTS.search(line):
        found["kv_cache_max_concurrency"] = float(most[1])
    if blocks := BLOCKS.search(line):
        found["num_gpu_blocks"] = int(blocks[1])
    if budget := BUDGET.search(line):
        found["max_num_batched_tokens"] = int(budget[1])
    return found


def _bounded(named: Iterable[tuple[str, Any]]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in named:
        flag = "model" if name == "model_tag" else name  # of vLLM before 0.9
        if not NOT_ABOUT_SPEED.match(flag) and len(found) < MOST_SETTINGS:
            found |= dict(kept(flag, _compact(value)))
    return found


def _compact(value: Any) -> Any:
    """Return a structure as JSON on one line, secrets masked; other values as they are."""
    if isinstance(value, Mapping):
        plain = json.loads(json.dumps(value, default=repr, skipkeys=True))
        return json.dumps(masked_settings(plain), sort_keys=True)
    return value


def _from_metrics(server: Server) -> dict[str, Scalar]:
    labels = server.cache_config() or {}
    return _bounded((LABELS[n], value_of(text)) for n, text in labels.items() if n in LABELS)


def _from_models(server: Server) -> dict[str, Scalar]:
    try:
        first = next(iter(server.models()), None)
    except ControlError:
        return {}
    if first is None:
        return {}
    names = {"model": first.root or first.id, "served_model_name": first.id}
    return _bounded({**names, "max_model_len": first.max_model_len}.items())


def _head(log: Path) -> str:
    try:
        with log.open("rb") as file:
            return file.read(HEAD_BYTES).decode(errors="replace")
    except OSError:
        return ""
