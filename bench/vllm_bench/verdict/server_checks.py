"""Doubts about what the server counted: tokens that the client didn't see, prompts from a cache."""

from __future__ import annotations

from ..figures.digits import counted
from ..figures.facts import Facts
from ..serverside.ledger import (
    PREEMPTIONS,
    REQUESTS,
    _client_counts,
    _unmeasured,
    cache_hit_rate,
    counter_deltas,
)
from . import finding
from .advice import less_load
from .finding import Finding, Severity


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
    invalid = exact and worst > (finding.LEDGER.invalid or 0)
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


def _words(counter: str) -> str:
    return counter.removeprefix("vllm:").removesuffix("_total").replace("_", " ")


def cache_hits(facts: Facts) -> Finding | None:
    """Prompts were found in the prefix cache; under `cache: cold` none should have been."""
    rate = cache_hit_rate(facts)
    cold = facts.setting("cache") == "cold"
    severity = None if rate is None else finding.CACHE_HITS.severity(rate)
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


def length_mismatch(facts: Facts) -> Finding | None:
    """Replies weren't as long as asked, though `ignore_eos` was to make them so."""
    replies = facts.succeeded
    if not facts.setting("ignore_eos") or replies.empty:
        return None
    asked = replies["max_tokens"] * facts.choices
    wrong = int((replies["completion_tokens"].fillna(-1) != asked).sum())
    severity = finding.LENGTH_MISMATCH.severity(wrong / len(replies))
    if severity is None:
        return None
    return Finding(
        "length_mismatch",
        severity,
        f"{wrong} of {len(replies)} replies ({100 * wrong / len(replies):.3g} %) aren't as long as "
        f"asked; mean {facts.values('completion_tokens').mean():.1f} tokens",
        "check that prompt and max_new_tokens together fit MAX_MODEL_LEN, and that the endpoint "
        "honours ignore_eos (on chat, gpt-oss doesn't: use endpoint: completions)",
    )


def multi_token_chunks(facts: Facts) -> Finding | None:
    """The server put several tokens in a chunk, so gaps between chunks aren't token gaps."""
    events = facts.total("token_events")
    if not facts.streaming or events == 0:
        return None
    ratio = facts.total("completion_tokens") / events
    severity = finding.TOKENS_PER_CHUNK.severity(ratio)
    if severity is None:
        return None
    return Finding(
        "multi_token_chunks",
        severity,
        f"{ratio:.2f} tokens a chunk",
        "TPOT stays right, gaps are those of chunks: serve with --stream-interval 1 and without "
        "speculative decoding to see single tokens; without either, the API server lagged",
    )
