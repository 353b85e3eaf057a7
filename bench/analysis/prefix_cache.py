"""How much of the prompts the server found in its prefix cache: prefill that it didn't do."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import Facts
from .ledger_checks import CACHE_QUERIES, cache_hit_rate, counter_deltas
from .statistics import floats


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The share of prompt tokens that were cached, and who said so; or why nobody did.

    The server's counters hold all that was sent, warm-up included; the replies only the
    requests that have rows.
    """

    hit_rate: float | None
    told_by: str | None
    cached_tokens: int | None  # of the successes' prompts; None: the replies don't say
    absent: str | None  # why hit_rate is None


def cache_use(facts: Facts) -> CacheUse:
    """Return a run's use of the cache: by the server's counters, else by what its replies say."""
    replies = floats(facts.succeeded["cached_tokens"])
    cached = int(replies.sum()) if replies.size else None
    rate, deltas = cache_hit_rate(facts), counter_deltas(facts) or {}
    if rate is not None:
        told_by = "the server's counters" if deltas.get(CACHE_QUERIES) else "the replies"
        return CacheUse(rate, told_by, cached, None)
    if CACHE_QUERIES in deltas:
        absent = "the server looked nothing up in its prefix cache: it is off"
    else:
        absent = "neither the server's counters nor its replies say what was cached"
    return CacheUse(None, None, cached, absent)
