"""Doubts about the server: counters that disagree, prompts from a cache, preemptions."""

from __future__ import annotations

from ..figures.absent import observed
from ..figures.digits import counted
from ..figures.facts import Facts
from ..records.text import printable
from ..serverside.engines import engines_of
from ..serverside.growth import by_server, total, why_not_grown
from ..serverside.ledger import (
    PREEMPTIONS,
    REQUESTS,
    cache_hit_rate,
    cached_share,
    client_counts,
    counter_deltas,
    server_change,
    unmeasured,
)
from ..serverside.prefix import PrefixShares, own_share, prefix_shares
from ..stats.distribution import floats
from .advice import less_load
from .finding import Doubt, Severity, check

COLD_HITS, RUN_HITS = 0.01, 0.10
NOT_SERVED = 0.02  # of the prompt tokens
SAID_BY = {"replies": "its replies", "counters": "its counters"}
MOST_SHOWN = 8  # servers, or engines
NOT_COLD = (
    "cache: cold sends a salt with each request, which this server doesn't honour: switch its "
    "prefix cache off (--no-enable-prefix-caching)"
)
AS_MEANT = "their prefill was skipped: right if your traffic repeats itself as much"
NOT_SALTED = (
    "prompts begin alike, or this server doesn't honour salts: set cache: cold, or switch its "
    "prefix cache off; if your traffic repeats itself as much, set cache: natural"
)


@check(
    "share of the client's own tokens: counters are exact, so any difference is another client's "
    "work or a lost reply; a hundredth more load moves hardly a figure, a twentieth does",
    suspect=0.0,
    invalid=0.05,
)
def ledger_mismatch(facts: Facts) -> Doubt | None:
    """The server counted something other than what the client saw."""
    deltas, counts = counter_deltas(facts) or {}, client_counts(facts)
    off = {name: deltas[name] - counts[name] for name in counts if name in deltas}
    # A failed or unrecorded request moved the counters too, by an unknown amount.
    all_known = len(facts.succeeded) == facts.arrivals and not unmeasured(facts, "failed")
    exact = all_known and not facts.lost_some
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


@check(
    "a run against a server without /metrics can still be right",
    silenced_by=("errors", "interrupted", "server_restarted", "replicas_in_turn"),
)
def ledger_unread(facts: Facts) -> Doubt | None:
    """The server's counters weren't read, so they don't confirm the client's count."""
    if facts.info is None or counter_deltas(facts) is not None:
        return None
    why = facts.server("metrics_unread") or observed(facts.info, "server_metrics").problem()
    return Doubt(
        "the server's own counters could not be read: tokens were not checked against them"
        + (f" ({printable(why)})" if why else ""),
        "make /metrics reachable from the client",
    )


@check(
    "its caches were cold again, requests in flight were lost, and the counters before and after "
    "it can't be compared",
    suspect="any restart",
)
def server_restarted(facts: Facts) -> Doubt | None:
    """The server restarted during the run; the ledger isn't compared."""
    if server_change(facts) != "server_restarted":
        return None
    return Doubt(
        "the server restarted during the run: its counters began anew",
        "look into the server's log for the cause, and run again",
    )


@check("load behind a balancer is measured rightly; its counters are those of one replica")
def replicas_in_turn(facts: Facts) -> Doubt | None:
    """Several servers answer at this address in turn; the ledger isn't compared."""
    if server_change(facts) != "replicas":
        return None
    each = by_server(facts, "vllm:generation_tokens")
    own = "each with its own counters"
    if len(each) > 1:
        shown = ", ".join(f"{tokens:,.0f}" for tokens in each[:MOST_SHOWN])
        own += f" ({shown} generated tokens, each between its first reading and its last)"
    return Doubt(
        f"several servers answered /metrics in turn, {own}: tokens were not checked against them",
        "the client's figures are of all of them; for the ledger and the server's own figures "
        "send to one replica",
    )


@check(
    "requests running on each engine, over the window: with 2 per engine or more none is without "
    "work by chance, and rates aren't those of the whole server",
    suspect="any such engine",
)
def engine_idle(facts: Facts) -> Doubt | None:
    """An engine ran nothing in the window, while there was work for all of them."""
    found = engines_of(facts)
    if found is None or not found.idle:
        return None
    names = ", ".join(printable(name, 20) for name in found.idle[:MOST_SHOWN])
    busy = max(found.running.values())
    return Doubt(
        f"{len(found.idle)} of {len(found.running)} engines ran nothing (engine {names}), the "
        f"busiest {busy:.1f} requests at a time",
        "look at the server's routing between engines and at that engine's log, and run again",
    )


@check("figures of the server are of the readings that there are", silenced_by=("ledger_unread",))
def metrics_gap(facts: Facts) -> Doubt | None:
    """The server's metrics were to be sampled and weren't, or not all the time."""
    sampler = observed(facts.info, "server_metrics")
    codes = ("no_metrics", "no_answer", "reading_failed", "not_written", "odd_values")
    gaps = len(sampler.parts("gaps"))
    why = sampler.problem(*codes) or (counted(gaps, "gap") if gaps else None)
    if why is None:
        return None
    return Doubt(
        f"the server's metrics were not read, or not all the time: {why}",
        "look at the server's /metrics yourself; the client's figures aren't affected",
    )


@check(
    "share of prompt tokens found in the prefix cache that should not have been there (under "
    "`cache: run` beyond what the scenario repeats itself: system prompt, a trace's own blocks; of "
    "n choices all but one find their prompt): prefill that wasn't done makes TTFT and throughput "
    "look better",
    suspect=f"> {100 * COLD_HITS:g} % under `cache: cold`, > {100 * RUN_HITS:g} % under `run`",
    invalid="> 10 % under `cold`",
)
def cache_hits(facts: Facts) -> Doubt | None:
    """Prompts were found in the prefix cache that the run should not have found there."""
    rate, cache = cache_hit_rate(facts), facts.setting("cache")
    among = 1 - 1 / facts.choices  # all but the first of a request's choices find its prompt
    if rate is None or rate - among <= COLD_HITS or _told_by_class(facts):
        return None
    figures = f"{100 * rate:.1f} % of the prompt tokens came from the prefix cache"
    if cache == "cold" and _all_alike(facts):
        grave = Severity.INVALID if rate - among > 0.10 else Severity.SUSPECT
        return Doubt(figures, NOT_COLD, rate, at_most=grave)
    own_way = facts.setting("conversations") or facts.plan("history") or facts.classes
    if cache != "run" or own_way:
        return Doubt(figures, AS_MEANT, rate, at_most=Severity.NOTE)
    own = among + own_share(facts) / facts.choices
    figures += f"; the scenario itself repeats about {100 * own:.0f} %" * bool(own)
    if rate - own <= RUN_HITS:
        return Doubt(figures, AS_MEANT, rate, at_most=Severity.NOTE)
    return Doubt(figures, NOT_SALTED, rate, at_most=Severity.SUSPECT)


def _told_by_class(facts: Facts) -> bool:
    """Whether it is known of each class by itself, which has its own settings."""
    return bool(facts.classes) and cached_share(facts.succeeded) is not None


def _all_alike(facts: Facts) -> bool:
    """Whether all classes control the cache in the same way."""
    asked = [(p.setting("cache"), p.setting("conversations")) for p in facts.classes.values()]
    return all(one == (facts.setting("cache"), None) for one in asked)


@check(
    "share of the prompt tokens: chance alone moves it by less; TTFT and throughput are rightly "
    "those of a server that finds so much",
)
def prefix_not_served(facts: Facts) -> Doubt | None:
    """The server found less of its prompts than a cache that never forgets would have."""
    shares = prefix_shares(facts)
    possible, served = shares.possible_share, shares.served_share
    if possible is None or served is None or possible - served <= NOT_SERVED:
        return None
    why, advice = _why_not_served(facts, shares)
    return Doubt(
        f"{_percent(served)} of the prompt tokens were found in the prefix cache, as "
        f"{SAID_BY[shares.served_by or '']} say, of a possible {_percent(possible)}: {why}",
        advice,
        possible - served,
    )


def _why_not_served(facts: Facts, shares: PrefixShares) -> tuple[str, str]:
    """Return the cause as far as it shows, and what to do."""
    config, cache = facts.server("cache_config") or {}, shares.cache_tokens
    if str(config.get("enable_prefix_caching")).lower() == "false":
        return "its prefix cache is switched off", "start it with --enable-prefix-caching"
    if server_change(facts) == "replicas":
        return (
            "several servers answer at this address, each with a cache of its own",
            "send what begins alike to one of them (a router that knows prefixes), or take it "
            "for what this address serves",
        )
    working_set = shares.working_set_tokens
    if working_set and cache and working_set > cache:
        return (
            f"the groups' beginnings are {working_set:,} tokens, and its cache holds {cache:,}",
            "fewer or shorter groups, or a larger cache (--gpu-memory-utilization, "
            "--kv-cache-dtype fp8)",
        )
    in_flight = _tokens_in_flight(facts)
    if cache and in_flight + (working_set or 0) > cache:
        return (
            f"about {in_flight:,.0f} tokens were in flight"
            + (f" beside {working_set:,} of the groups' beginnings" if working_set else "")
            + f", and its cache holds {cache:,}",
            f"lower {less_load(facts)}, or give it a larger cache",
        )
    if not shares.served_share:
        return (
            "none at all: it has no prefix cache, or takes equal salts for unequal",
            "look at its settings; --enable-prompt-tokens-details makes vLLM's replies say more",
        )
    return (
        "why doesn't show from here",
        "another server may not find what is sent at the same time, or several engines behind "
        "this address have a cache each",
    )


def _tokens_in_flight(facts: Facts) -> float:
    """Return about how many tokens the requests in flight have at a time."""
    rows, flight = facts.succeeded, facts.flight
    if flight is None or not len(rows):
        return 0.0
    tokens = facts.total("prompt_tokens") + facts.total("completion_tokens")
    return flight.mean * tokens / len(rows)


@check("the length of a block is the finest step that a cache knows")
def prefix_not_as_wanted(facts: Facts) -> Doubt | None:
    """The run's requests share more or less with each other than the scenario's prefix asks for."""
    shares = prefix_shares(facts)
    wanted, possible, block = shares.wanted_share, shares.possible_share, shares.block_size
    tokens = floats(facts.succeeded["prompt_tokens"])
    if wanted is None or possible is None or block is None or not tokens.size:
        return None
    if "groups" not in (facts.plan("prefix") or {}):  # of sessions any part may be sent
        return None
    if abs(possible - wanted) <= block / float(tokens.mean()):
        return None
    return Doubt(
        f"an endless cache would have found {_percent(possible)} of the prompt tokens, where "
        f"{_percent(wanted)} were wanted: {counted(facts.rows, 'request')} ended, "
        f"{len(facts.failures)} of them failed",
        "each group's first request finds nothing, so the share grows with the run: set "
        "prefix.primed: true, or let the run have as many requests as the plan",
        abs(possible - wanted),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


@check(
    "share of the pictures that the processor had prepared before, which costs it up to half a "
    "second each: TTFT is rightly that of a server that is sent the same pictures so often"
)
def pictures_cached(facts: Facts) -> Doubt | None:
    """Pictures came again, and the server's processor had them in its cache."""
    if facts.said is None or why_not_grown(facts):
        return None
    asked = total(facts.said, "vllm:mm_cache_queries")
    found = total(facts.said, "vllm:mm_cache_hits")
    if not asked or not found or found / asked <= RUN_HITS:
        return None
    return Doubt(
        f"{_percent(found / asked)} of {asked:,.0f} pictures came from the processor's cache",
        "right if your pictures repeat themselves as much; else take more of them than requests",
    )


@check(
    "whether it helped depends on the server's cache, which doesn't say",
    silenced_by=("cache_hits",),
)
def prompt_reuse(facts: Facts) -> Doubt | None:
    """Prompts were sent more than once, so the prefix cache may have helped."""
    uses = (facts.info.prompts.get("max_uses") or 0) if facts.info else 0
    salted = facts.setting("cache") != "natural"  # each use has a salt of its own
    if uses <= 1 or salted or cache_hit_rate(facts) is not None:
        return None
    return Doubt(
        f"prompts were sent up to {uses} times in this run",
        "a repeated prompt may be answered from the prefix cache: take a larger data set or "
        "set cache: run",
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
