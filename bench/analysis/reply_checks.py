"""Doubts about what the server sent back: the lengths, the chunks, and its own count of them."""

from __future__ import annotations

from . import thresholds
from .facts import Facts
from .finding import Finding, Severity

PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
REQUESTS = "vllm:request_success_total"


def length_mismatch(facts: Facts) -> Finding | None:
    """Replies weren't as long as asked, though `ignore_eos` was to make them so."""
    replies = facts.succeeded
    if not facts.setting("ignore_eos") or replies.empty:
        return None
    asked = replies["max_tokens"] * facts.choices
    wrong = int((replies["completion_tokens"].fillna(-1) != asked).sum())
    severity = thresholds.LENGTH_MISMATCH.severity(wrong / len(replies))
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
    severity = thresholds.TOKENS_PER_CHUNK.severity(ratio)
    if severity is None:
        return None
    return Finding(
        "multi_token_chunks",
        severity,
        f"{ratio:.2f} tokens a chunk",
        "TPOT stays right, gaps are those of chunks: serve with --stream-interval 1 and without "
        "speculative decoding to see single tokens; without either, the API server lagged",
    )


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
    exact = facts.info is not None and len(facts.succeeded) == facts.info.num_requests
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
    counts = {OUTPUT_TOKENS: facts.total("completion_tokens")}
    if facts.choices == 1:  # vLLM counts a request and its prompt once per choice
        counts[PROMPT_TOKENS] = facts.total("prompt_tokens")
        counts[REQUESTS] = len(facts.succeeded)
    return counts


def _words(counter: str) -> str:
    return counter.removeprefix("vllm:").removesuffix("_total").replace("_", " ")
