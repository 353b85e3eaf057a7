"""What vLLM's /metrics are called: the names of now, and those of older servers and collectors."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Our columns, and what the server calls each.
NOW = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
}
TOTALS = {
    "preemptions_total": "vllm:num_preemptions_total",
    "prefix_cache_queries_total": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits_total": "vllm:prefix_cache_hits_total",
    "prompt_tokens_total": "vllm:prompt_tokens_total",
    "generation_tokens_total": "vllm:generation_tokens_total",
}
HISTOGRAMS = {
    "ttft": "vllm:time_to_first_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
}
VALUES = {**NOW, **TOTALS}
# The server's own counters; the check ledger_mismatch compares the first three. They are summed
# over all models, so that work for other clients shows.
COUNTERS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
)
STARTED = "process_start_time_seconds"  # of the server's process, on its wall clock
CACHE_CONFIG = "vllm:cache_config_info"
# What older servers call them (v0.4 to v0.11).
OLDER = {
    "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
    "vllm:prefix_cache_queries_total": "vllm:gpu_prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total": "vllm:gpu_prefix_cache_hits_total",
    "vllm:inter_token_latency_seconds": "vllm:time_per_output_token_seconds",
    "vllm:request_time_per_output_token_seconds": "vllm:request_time_per_output_token",
}
MOST_VALUE = 1e15  # of a counter: a million tokens per second for thirty years
BEGINNINGS = ("vllm:", "vllm_", "ray_vllm_", STARTED)  # of the names that are kept


def plain(name: str) -> str:
    """Return a name as vLLM spells it; Ray's exporter makes `ray_vllm_` of `vllm:`."""
    return re.sub(r"^(?:ray_)?vllm[:_]", "vllm:", name)


def spellings(names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Return each name that these can have: the name of now, and which of two goes first."""
    found: dict[str, tuple[str, int]] = {}
    for name in names:
        base, part = _part(name)
        older = OLDER.get(base)
        spelled = [name, *([older + part] if older else [])]
        # A collector on the way may leave the ending out.
        spelled += [one.removesuffix("_total") for one in spelled]
        for rank, one in enumerate(spelled):
            found.setdefault(one, (name, rank))
    return found


_NEWER = {old: new for new, old in OLDER.items()}


def family(name: str) -> str:
    """Return one name for a family however it is spelled: without `_total`."""
    found = plain(name)
    newer = _NEWER.get(found) or _NEWER.get(f"{found}_total") or found
    return newer.removesuffix("_total")


def _part(name: str) -> tuple[str, str]:
    """Return a histogram's name and which part of it this is; of others the name alone."""
    for part in ("_sum", "_count", "_bucket"):
        if name.endswith(f"_seconds{part}"):
            return name.removesuffix(part), part
    return name, ""


PARTS = tuple(f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("sum", "count"))
SPELLINGS = spellings((*NOW.values(), *COUNTERS, STARTED, CACHE_CONFIG, *PARTS))


def most_of(name: str) -> float:
    """Return the largest value that can be true of a name of now; none may be below 0."""
    return 1.0 if name == NOW["kv_cache_usage"] else MOST_VALUE
