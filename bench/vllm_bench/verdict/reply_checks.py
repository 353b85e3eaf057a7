"""Doubts about what the server sent back: their lengths and their chunks."""

from __future__ import annotations

from ..figures.facts import Facts
from . import thresholds
from .finding import Finding


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
