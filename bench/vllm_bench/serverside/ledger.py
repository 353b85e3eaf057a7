"""The server's own counters over a run, and the client's count to compare them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..figures.absent import observed
from ..figures.facts import Facts
from ..records.row import Rows
from ..stats.distribution import floats

PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
REQUESTS = "vllm:request_success_total"
CACHE_QUERIES = "vllm:prefix_cache_queries_total"  # both in tokens
CACHE_HITS = "vllm:prefix_cache_hits_total"
PREEMPTIONS = "vllm:num_preemptions_total"
STARTED = "process_start_time_seconds"  # of the server's process, on its wall clock
CLOCKS_APART_S = 5.0  # between the server's wall clock and the client's

Change = Literal["server_restarted", "replicas"]
CHANGES: tuple[Change, ...] = ("replicas", "server_restarted")


def counter_deltas(facts: Facts) -> dict[str, float] | None:
    """Return by how much the server's counters grew over the run; None where that is unknown.

    It is where they weren't read, and where they aren't one server's: see `server_change`.
    """
    before, after = _counters(facts)
    if not before or not after or server_change(facts):
        return None
    # A counter that didn't exist before its first request was 0.
    return {n: value - before.get(n, 0.0) for n, value in after.items() if n != STARTED}


def server_change(facts: Facts) -> Change | None:
    """Return why the counters before and after a run aren't those of one server, if they aren't.

    It restarted in the run; or others answer at the same address, each with its own counters.
    """
    sampler = observed(facts.info, "server_metrics")
    noted = next((change for change in CHANGES if sampler.problem(change)), None)
    before, after = _counters(facts)
    if noted or facts.info is None or not before or not after:
        return noted
    began_s, ended_s = before.get(STARTED), after.get(STARTED)
    clock_set = {began_s, ended_s} <= set(sampler.noted.get("server_started") or [])
    if began_s and ended_s and began_s != ended_s and not clock_set:
        was_there = ended_s < facts.info.clock_start.wall_s - CLOCKS_APART_S
        return "replicas" if was_there else "server_restarted"
    shrank = any(value < before.get(name, 0.0) for name, value in after.items())
    return "server_restarted" if shrank else None


def _counters(facts: Facts) -> tuple[Mapping[str, float] | None, Mapping[str, float] | None]:
    counters = facts.info.server_counters if facts.info else {}
    return counters.get("before"), counters.get("after")


def client_counts(facts: Facts) -> dict[str, int]:
    """Return the client's count over successful replies, those of warm-up and tail included."""
    counts = {
        OUTPUT_TOKENS: facts.total("completion_tokens") + unmeasured(facts, "completion_tokens")
    }
    if facts.choices == 1:  # vLLM counts a request and its prompt once per choice
        counts[PROMPT_TOKENS] = facts.total("prompt_tokens") + unmeasured(facts, "prompt_tokens")
        sent = sum(unmeasured(facts, role) for role in ("warmup", "priming", "tail"))
        counts[REQUESTS] = len(facts.succeeded) + sent - unmeasured(facts, "failed")
    return counts


def unmeasured(facts: Facts, name: str) -> int:
    """Return a count over the requests without a row: warm-up and tail."""
    value = facts.info.unmeasured.get(name) if facts.info else None
    return value if isinstance(value, int) else 0


def cache_hit_rate(facts: Facts) -> float | None:
    """Return the share of prompt tokens that came from the prefix cache; None: unknown."""
    deltas = counter_deltas(facts) or {}
    if deltas.get(CACHE_QUERIES):
        return deltas.get(CACHE_HITS, 0.0) / deltas[CACHE_QUERIES]
    return cached_share(facts.succeeded)


def cached_share(rows: Rows) -> float | None:
    """Return the cached share of the prompt tokens of the replies that report it."""
    known = rows.of(rows.has("cached_tokens"))
    asked = float(floats(known["prompt_tokens"]).sum())
    return float(floats(known["cached_tokens"]).sum()) / asked if asked else None
