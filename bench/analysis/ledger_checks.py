"""Doubts about what the server counted: tokens that the client didn't see, prompts from a cache."""

from __future__ import annotations

from . import thresholds
from .advice import less_load
from .cells import counted
from .facts import Facts
from .finding import Finding, Severity
from .statistics import floats

PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
REQUESTS = "vllm:request_success_total"
CACHE_QUERIES = "vllm:prefix_cache_queries_total"  # both in tokens
CACHE_HITS = "vllm:prefix_cache_hits_total"
PREEMPTIONS = "vllm:num_preemptions_total"
UNMEASURED = ("warmup", "tail", "failed", "prompt_tokens", "completion_tokens")


def ledger_unread(facts: Facts) -> Finding | None:
    """The server's counters weren't read, so nobody confirms the client's count."""
    if facts.info is None or counter_deltas(facts) is not None:
        return None
    return Finding(
        "ledger_unread",
        Severity.NOTE,
        "the server's own counters could not be read: tokens were not checked against them",
        "make /metrics reachable from the client",
    )


def ledger_mismatch(facts: Facts) -> Finding | None:
    """The server counted something other than what the client saw."""
    deltas = counter_deltas(facts)
    if deltas is None:
        return None
    counted = _client_counts(facts)
    off = {name: deltas[name] - counted[name] for name in counted if name in deltas}
    # A failed or unrecorded request moved the counters too, by how much nobody knows.
    exact = len(facts.succeeded) == facts.arrivals and not _unmeasured(facts, "failed")
    wrong = {name: d for name, d in off.items() if (d != 0 if exact else d < 0)}
    if not wrong:
        return None
    worst = max((abs(d) / max(counted[n], 1) for n, d in wrong.items() if n != REQUESTS), default=0)
    invalid = exact and worst > (thresholds.LEDGER.invalid or 0)
    return Finding(
        "ledger_mismatch",
        Severity.INVALID if invalid else Severity.SUSPECT,
        "; ".join(f"{_words(n)}: server {deltas[n]:.0f}, client {counted[n]}" for n in wrong),
        _remedy(sum(wrong.values())),
    )


def _remedy(surplus: float) -> str:
    if surplus > 0:
        return "somebody else used the server: keep it to yourself for the run, and run again"
    return (
        "the server counted less than was received: it restarted, or /metrics shows only some of "
        "the engines behind this address"
    )


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


def _words(counter: str) -> str:
    return counter.removeprefix("vllm:").removesuffix("_total").replace("_", " ")


def cache_hit_rate(facts: Facts) -> float | None:
    """Return the share of prompt tokens that came from the prefix cache; None: nobody said."""
    deltas = counter_deltas(facts) or {}
    if deltas.get(CACHE_QUERIES):
        return deltas.get(CACHE_HITS, 0.0) / deltas[CACHE_QUERIES]
    known = facts.succeeded[facts.succeeded["cached_tokens"].notna()]
    asked = float(floats(known["prompt_tokens"]).sum())
    return float(floats(known["cached_tokens"]).sum()) / asked if asked else None


def cache_hits(facts: Facts) -> Finding | None:
    """Prompts were found in the prefix cache; under `cache: cold` none should have been."""
    rate = cache_hit_rate(facts)
    cold = facts.setting("cache") == "cold"
    severity = None if rate is None else thresholds.CACHE_HITS.severity(rate)
    if rate is None or severity is None:
        return None
    return Finding(
        "cache_hits",
        severity if cold else Severity.NOTE,
        f"{100 * rate:.1f} % of the prompt tokens came from the prefix cache",
        "cache: cold sends a salt with each request, which this server doesn't honour: switch "
        "its prefix cache off (--no-enable-prefix-caching)"
        if cold
        else "prefill of these was skipped: right if your traffic repeats itself so, else set "
        "cache: cold",
    )


def prompt_reuse(facts: Facts) -> Finding | None:
    """Prompts were sent more than once, so the prefix cache may have helped."""
    uses = facts.info.prompts.get("max_uses") if facts.info else None
    if not isinstance(uses, int) or uses <= 1 or facts.setting("cache") == "cold":
        return None
    return Finding(
        "prompt_reuse",
        Severity.NOTE,
        f"prompts were sent up to {uses} times in this run",
        "a repeated prompt may be answered from the prefix cache: take a larger data set or "
        "set cache: cold",
    )


def preemptions(facts: Facts) -> Finding | None:
    """The server ran out of KV cache: it stopped requests, and computed them again later."""
    count = (counter_deltas(facts) or {}).get(PREEMPTIONS, 0.0)
    if count <= 0:
        return None
    return Finding(
        "preemptions",
        Severity.NOTE,
        f"the server preempted requests {counted(round(count), 'time')}: its KV cache was full",
        f"each is a long gap in a stream: lower {less_load(facts)}, or give the cache more room "
        "(--gpu-memory-utilization, --kv-cache-dtype fp8, --max-num-seqs)",
    )
