"""What a run shares with itself: wanted, possible and served, of its prompt tokens, side by side.

Wanted is what the scenario's `prefix` asks for, or what recorded sessions share; possible what a
cache that never forgets would have had, by the plan, in whole blocks; served what the server found.
Possible and served are of the same successes. Where the replies don't say what was found, the
server's counters do, if nobody else moved them: without the warm-up, whose prompts are found
nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..figures.absent import Figure, Why, group_of, ratio
from ..figures.facts import Facts
from ..records.row import Rows, column_docs, doc
from ..stats.distribution import floats
from .ledger import (
    CACHE_HITS,
    CACHE_QUERIES,
    PROMPT_TOKENS,
    client_counts,
    counter_deltas,
    unmeasured,
)

NOBODY_ELSE = 0.01  # of the prompt tokens by which the server's counters may be off
NO_PREFIX = Why("the scenario has no prefix, and no recorded sessions of which it is known")
NO_PLAN = Why("the plan doesn't say what its prompts share")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixShares:
    """Shares of the prompt tokens, 0 to 1, over the whole run. `absent` says why one is missing."""

    wanted_share: float | None = doc(
        "share of the prompt tokens that the scenario's prefix, or the recorded sessions if each "
        "is played once and whole, share with earlier requests"
    )
    possible_share: float | None = doc(
        "share that a cache which never forgets would have found, in whole blocks, by the plan"
    )
    served_share: float | None = doc("share that the server found")
    served_by: str | None = doc(
        "who says what was found: replies (their cached_tokens), or the server's counters"
    )
    working_set_tokens: int | None = doc("tokens of all groups' beginnings together")
    cache_tokens: int | None = doc("tokens that the server's KV cache holds")
    block_size: int | None = doc("tokens of a block of the prefix cache")
    absent: Mapping[str, str]

    @property
    def known(self) -> bool:
        return self.possible_share is not None


# Where the plan doesn't know what its prompts have in common.
NOTHING = PrefixShares(**dict.fromkeys(name for name, _ in column_docs(PrefixShares)), absent={})


def prefix_shares(facts: Facts) -> PrefixShares:
    """Return what a run's prompts share, and what of it was found."""
    plan: Mapping[str, Any] = facts.plan("prefix") or {}
    wanted, rows = plan.get("wanted_share"), possible_rows(facts)
    if wanted is None and not len(rows):
        return NOTHING
    served, by = _served(facts, rows) if len(rows) else (NO_PLAN, None)
    figures: dict[str, Figure] = {
        "wanted_share": NO_PREFIX if wanted is None else float(wanted),
        "possible_share": _share(rows, "possible_cached_tokens") if len(rows) else NO_PLAN,
        "served_share": served,
    }
    return group_of(
        PrefixShares,
        figures,
        served_by=by,
        working_set_tokens=_working_set(facts),
        cache_tokens=_cache_tokens(facts) if len(rows) else None,
        block_size=plan.get("block_size"),
    )


def _working_set(facts: Facts) -> int | None:
    """Return the tokens of all groups' beginnings; classes share none: each has its own salts."""
    plans = [part.plan("prefix") or {} for part in facts.classes.values() or (facts,)]
    known = [plan["working_set_tokens"] for plan in plans if plan.get("working_set_tokens")]
    return sum(known) if known else None


def possible_rows(facts: Facts) -> Rows:
    """Return the successes of which the plan says what a cache could have found."""
    rows = facts.succeeded
    return rows.of(rows.has("possible_cached_tokens") & rows.has("prompt_tokens"))


def possible_share(facts: Facts) -> float | None:
    """Return the share of all prompt tokens that the plan repeats; None where it doesn't say."""
    rows = possible_rows(facts)
    all_tokens = float(floats(facts.succeeded["prompt_tokens"]).sum())
    if not len(rows) or not all_tokens:
        return None
    return float(floats(rows["possible_cached_tokens"]).sum()) / all_tokens


def _share(rows: Rows, column: str) -> Figure:
    return ratio(float(floats(rows[column]).sum()), float(floats(rows["prompt_tokens"]).sum()))


def _served(facts: Facts, rows: Rows) -> tuple[Figure, str | None]:
    # A server that reports what it found may leave it out where that is nothing.
    if rows.has("cached_tokens").any():
        return _share(rows, "cached_tokens"), "replies"
    found = _by_counters(facts) if len(rows) == len(facts.succeeded) else None
    if found is None:
        return Why("the replies don't say, and the server's counters are not of these alone"), None
    return found, "counters"


def _by_counters(facts: Facts) -> Figure | None:
    """Return what the server's counters say; None: others, or failures, moved them as well."""
    deltas, counts = counter_deltas(facts) or {}, client_counts(facts)
    mine, asked = counts.get(PROMPT_TOKENS), deltas.get(CACHE_QUERIES)
    if not mine or not asked:
        return None
    if any(
        abs(deltas.get(name, 0.0) / mine - 1) > NOBODY_ELSE
        for name in (PROMPT_TOKENS, CACHE_QUERIES)
    ):
        return None
    prefix = facts.plan("prefix") or {}
    hits = deltas.get(CACHE_HITS, 0.0) - float(prefix.get("primed_cached_tokens") or 0)
    return ratio(max(0.0, hits), asked - unmeasured(facts, "warmup_prompt_tokens"))


def _cache_tokens(facts: Facts) -> int | None:
    """Return the tokens of the server's KV cache, by its own words; None where it doesn't say."""
    config = facts.server("cache_config") or {}
    told = str(config.get("kv_cache_size_tokens", ""))
    if told.isdecimal():
        return int(told)
    blocks, size = (str(config.get(name, "")) for name in ("num_gpu_blocks", "block_size"))
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else None


CHARACTERS_PER_TOKEN = 3.0  # rather few, so that a system prompt explains rather more hits


def own_share(facts: Facts) -> float:
    """Return about which share of its prompt tokens a run repeats itself, as it is meant to.

    The plan of groups and of a trace knows it; a system prompt stands before each prompt.
    """
    shared = possible_share(facts)
    if shared is None:  # rows of a version that didn't write it
        shared = facts.plan_number("trace_shared_share")
    if shared is not None:
        return shared
    before, tokens = facts.setting("system_prompt"), floats(facts.succeeded["prompt_tokens"])
    if not isinstance(before, str) or not tokens.sum():
        return 0.0
    return min(1.0, len(before) / CHARACTERS_PER_TOKEN / float(tokens.mean()))
