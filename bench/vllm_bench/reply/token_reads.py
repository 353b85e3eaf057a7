"""Which reads of a reply brought tokens, and how many each, for the file of tokens."""

from __future__ import annotations

from array import array

from .reply import MOST_TOKENS, Reply


def grouped(reply: Reply, start_ns: int) -> tuple[array[int], array[int], array[int]]:
    """Return stamp, token events and tokens of each read that brought tokens."""
    exact = exact_counts(reply)
    if len(set(reply.stamps)) == len(exact):  # each event has a read of its own
        relative = array("q", [stamp - start_ns for stamp in reply.stamps])
        return relative, array("H", [1]) * len(exact), array("H", exact)
    stamps, events, tokens = array("q"), array("H"), array("H")
    last = None
    for stamp, count in zip(reply.stamps, exact, strict=True):
        if stamp == last:
            events[-1] = min(MOST_TOKENS, events[-1] + 1)
            tokens[-1] = min(MOST_TOKENS, tokens[-1] + count)
        else:
            stamps.append(stamp - start_ns)
            events.append(1)
            tokens.append(count)
        last = stamp
    return stamps, events, tokens


def exact_counts(reply: Reply) -> array[int]:
    """Return the tokens of each event where they are known, else zeros.

    Known where each event has its count (`return_token_ids`, `continuous_usage_stats`), and where
    there are as many token events as tokens: then each brought one.
    """
    total = reply.usage.completion_tokens if reply.usage else None
    if total == len(reply.stamps):
        return array("I", [1]) * len(reply.stamps)
    if total == sum(reply.token_counts) and all(reply.token_counts):
        return reply.token_counts
    return array("I", [0]) * len(reply.stamps)
