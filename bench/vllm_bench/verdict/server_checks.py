"""Doubts about the server: replies not as asked, counters that disagree, prompts from a cache."""

from __future__ import annotations

from ..figures.digits import counted
from ..figures.facts import Facts
from ..serverside.ledger import (
    PREEMPTIONS,
    REQUESTS,
    cache_hit_rate,
    client_counts,
    counter_deltas,
    unmeasured,
)
from .finding import Doubt, Severity, check
from .load_checks import less_load


@check(
    "share of replies whose length isn't the one asked for: two runs then aren't the same work",
    suspect=0.01,
    invalid=0.05,
)
def length_mismatch(facts: Facts) -> Doubt | None:
    """Replies weren't as long as asked, although `ignore_eos` should make them so."""
    replies = facts.succeeded
    if not facts.setting("ignore_eos") or replies.empty:
        return None
    asked = replies["max_tokens"] * facts.choices
    wrong = int((replies["completion_tokens"].fillna(-1) != asked).sum())
    share = wrong / len(replies)
    return Doubt(
        f"{wrong} of {len(replies)} replies ({100 * share:.3g} %) aren't as long as "
        f"asked; mean {facts.values('completion_tokens').mean():.1f} tokens",
        "check that prompt and max_new_tokens together fit MAX_MODEL_LEN, and that the endpoint "
        "honours ignore_eos (on chat, gpt-oss doesn't: use endpoint: completions)",
        share,
    )


@check(
    "above it a gap between chunks is no longer a gap between tokens; the rest stays right",
    suspect=1.05,
    unit="tokens per chunk",
)
def multi_token_chunks(facts: Facts) -> Doubt | None:
    """The server put several tokens in a chunk, so gaps between chunks aren't token gaps."""
    events = facts.total("token_events")
    if not facts.streaming or events == 0:
        return None
    ratio = facts.total("completion_tokens") / events
    return Doubt(
        f"{ratio:.2f} tokens per chunk",
        "TPOT stays right, gaps are those of chunks: serve with --stream-interval 1 and without "
        "speculative decoding to see single tokens; if that is so already, the API server was late",
        ratio,
    )


@check(
    "share of the client's own tokens: counters are exact, so any difference is another client's "
    "work or a lost reply, and above 1 % it has changed the load",
    suspect=0.0,
    invalid=0.01,
)
def ledger_mismatch(facts: Facts) -> Doubt | None:
    """The server counted something other than what the client saw."""
    deltas, counts = counter_deltas(facts) or {}, client_counts(facts)
    off = {name: deltas[name] - counts[name] for name in counts if name in deltas}
    # A failed or unrecorded request moved the counters too, by an unknown amount.
    exact = len(facts.succeeded) == facts.arrivals and not unmeasured(facts, "failed")
    wrong = {name: d for name, d in off.items() if (d != 0 if exact else d < 0)}
    if not wrong:
        return None
    shares = {name: abs(d) / max(counts[name], 1) for name, d in wrong.items()}
    tokens = [share for name, share in shares.items() if name != REQUESTS]
    return Doubt(
        "; ".join(f"{_in_words(n)}: server {deltas[n]:.0f}, client {counts[n]}" for n in wrong),
        "another client used the server: run again while nobody else uses it"
        if sum(wrong.values()) > 0
        else "the server counted less than was received: it restarted, or /metrics shows only "
        "some of the engines behind this address",
        max(tokens or shares.values()),
        # Only request counts differ, not tokens.
        at_most=Severity.INVALID if exact and tokens else Severity.SUSPECT,
    )


def _in_words(counter: str) -> str:
    return counter.removeprefix("vllm:").removesuffix("_total").replace("_", " ")


@check("a run against a server without /metrics can still be right")
def ledger_unread(facts: Facts) -> Doubt | None:
    """The server's counters weren't read, so they don't confirm the client's count."""
    if facts.info is None or counter_deltas(facts) is not None:
        return None
    return Doubt(
        "the server's own counters could not be read: tokens were not checked against them",
        "make /metrics reachable from the client",
    )


@check(
    "share of prompt tokens found in the prefix cache, although one salt per request should "
    "prevent it: prefill that wasn't done makes TTFT and throughput look better",
    suspect=0.01,
    invalid=0.10,
    only=" under `cache: cold`",
)
def cache_hits(facts: Facts) -> Doubt | None:
    """Prompts were found in the prefix cache; under `cache: cold` none should have been."""
    rate, cold = cache_hit_rate(facts), facts.setting("cache") == "cold"
    if rate is None:
        return None
    return Doubt(
        f"{100 * rate:.1f} % of the prompt tokens came from the prefix cache",
        "cache: cold sends a salt with each request, which this server doesn't honour: switch "
        "its prefix cache off (--no-enable-prefix-caching)"
        if cold
        else "their prefill was skipped: right if your traffic repeats itself as much, else set "
        "cache: cold",
        rate,
        at_most=Severity.INVALID if cold else Severity.NOTE,
    )


@check("whether it helped depends on the server's cache")
def prompt_reuse(facts: Facts) -> Doubt | None:
    """Prompts were sent more than once, so the prefix cache may have helped."""
    uses = facts.info.prompts.get("max_uses") if facts.info else None
    if not isinstance(uses, int) or uses <= 1 or facts.setting("cache") == "cold":
        return None
    return Doubt(
        f"prompts were sent up to {uses} times in this run",
        "a repeated prompt may be answered from the prefix cache: take a larger data set or "
        "set cache: cold",
    )


@check("they are how the server handles this load, and part of what is measured")
def preemptions(facts: Facts) -> Doubt | None:
    """The server ran out of KV cache: it stopped requests, and computed them again later."""
    count = (counter_deltas(facts) or {}).get(PREEMPTIONS, 0.0)
    if count <= 0:
        return None
    return Doubt(
        f"the server preempted requests {counted(round(count), 'time')}: its KV cache was full",
        f"each is a long gap in a stream: lower {less_load(facts)}, or give the cache more room "
        "(--gpu-memory-utilization, --kv-cache-dtype fp8, --max-num-seqs)",
    )
