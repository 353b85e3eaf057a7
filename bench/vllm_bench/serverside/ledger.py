"""The server's own counters over a run, and the client's count beside them."""

from __future__ import annotations

from ..figures.facts import Facts
from ..figures.statistics import floats

PROMPT_TOKENS = "vllm:prompt_tokens_total"


OUTPUT_TOKENS = "vllm:generation_tokens_total"


REQUESTS = "vllm:request_success_total"


CACHE_QUERIES = "vllm:prefix_cache_queries_total"  # both in tokens


CACHE_HITS = "vllm:prefix_cache_hits_total"


PREEMPTIONS = "vllm:num_preemptions_total"


UNMEASURED = ("warmup", "tail", "failed", "prompt_tokens", "completion_tokens")


def counter_deltas(facts: Facts) -> dict[str, float] | None:
    """Return by how much the server's counters moved over the run; None where they're unknown."""
    counters = facts.info.server_counters if facts.info else {}
    before, after = counters.get("before"), counters.get("after")
    if not before or not after:
        return None
    # A counter that didn't exist before its first request stood at 0.
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def _client_counts(facts: Facts) -> dict[str, int]:
    """Return what the client saw of replies that succeeded, those that nobody measured too."""
    beside = {name: _unmeasured(facts, name) for name in UNMEASURED}
    output = facts.total("completion_tokens") + beside["completion_tokens"]
    counts = {OUTPUT_TOKENS: output}
    if facts.choices == 1:  # vLLM counts a request and its prompt once per choice
        counts[PROMPT_TOKENS] = facts.total("prompt_tokens") + beside["prompt_tokens"]
        sent = beside["warmup"] + beside["tail"] - beside["failed"]
        counts[REQUESTS] = len(facts.succeeded) + sent
    return counts


def _unmeasured(facts: Facts, name: str) -> int:
    """Return a count of the requests without a row: warm-up, and what was sent to the end."""
    value = facts.info.unmeasured.get(name) if facts.info else None
    return value if isinstance(value, int) else 0


def cache_hit_rate(facts: Facts) -> float | None:
    """Return the share of prompt tokens that came from the prefix cache; None: nobody said."""
    deltas = counter_deltas(facts) or {}
    if deltas.get(CACHE_QUERIES):
        return deltas.get(CACHE_HITS, 0.0) / deltas[CACHE_QUERIES]
    known = facts.succeeded[facts.succeeded["cached_tokens"].notna()]
    asked = float(floats(known["prompt_tokens"]).sum())
    return float(floats(known["cached_tokens"]).sum()) / asked if asked else None
