"""Which reads of a reply brought tokens, and how many each, for the file of tokens."""

from __future__ import annotations

from array import array
from collections import Counter

from .reply import MOST_TOKENS, Reply


def grouped(reply: Reply, start_ns: int) -> tuple[array[int], array[int], array[int]]:
    """Return stamp, token events and tokens of each read that brought tokens.

    Equal stamps are one read. Tokens are 0 where they aren't known. They are where there are as
    many token events as tokens, since then each brought one; and where each event has its count
    (`return_token_ids`, `continuous_usage_stats`).
    """
    events = Counter(reply.stamps)
    stamps = array("q", [stamp - start_ns for stamp in events])
    total = reply.completion_tokens
    if total == len(reply.stamps):
        tokens = events
    elif total == sum(reply.token_counts) and all(reply.token_counts):
        tokens = Counter()
        for stamp, count in zip(reply.stamps, reply.token_counts, strict=True):
            tokens[stamp] += count
    else:
        tokens = Counter(dict.fromkeys(events, 0))
    return stamps, _storable(events), _storable(tokens)


def _storable(counts: Counter[int]) -> array[int]:
    found = counts.values()
    if max(found, default=0) > MOST_TOKENS:
        return array("H", [min(count, MOST_TOKENS) for count in found])
    return array("H", found)
