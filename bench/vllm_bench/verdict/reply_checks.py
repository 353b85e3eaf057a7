"""Doubts about replies: not as asked, without a first token, or held back on their way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..figures.facts import Facts
from ..figures.statistics import floats, quantile
from ..serverside.server import server_side
from .finding import Doubt, Severity, check
from .token_events import TokenEvents, token_events

# Events a read: fewer can be chance, where two tokens come close to each other.
BUFFERED = 1.2
OUTSIDE_MS, OUTSIDE_SHARE = 20.0, 0.20


def _share_of(wrong: pd.Series[bool], of: pd.DataFrame) -> tuple[float, str]:
    """Return how many rows are wrong, as a share and as `3 of 100 (3 %)`."""
    count = int(wrong.sum())
    share = count / len(of)
    return share, f"{count} of {len(of)} ({100 * share:.3g} %)"


def _streamed(facts: Facts) -> pd.DataFrame:
    """Return the counted successes of a run that asked for streams."""
    rows: pd.DataFrame = facts.frame[facts.measured]
    return rows if facts.streaming else rows.head(0)


@check(
    "share of the counted successes: those without a first token are missing in TTFT and TPOT, "
    "and from one in a hundred on they can be its p99",
    suspect=0.01,
    invalid=0.05,
)
def no_first_token(facts: Facts) -> Doubt | None:
    """Streamed replies succeeded without a token that could be stamped."""
    rows = _streamed(facts)
    if rows.empty:
        return None
    share, words = _share_of(rows["ttft_ms"].isna(), rows)
    return Doubt(
        f"{words} streamed replies have no first token",
        "look at the events of one (curl -N): text may come in a field that no OpenAI client "
        "reads, or a proxy made one piece of the stream",
        share,
    )


@check(
    "error that they bring into the median: events after the first in a reply's first read, times "
    "the gap between events / the median TTFT, and / the time from first to last token (all of "
    "it where most replies came in one read); for gaps, events per read - 1. Or, TTFT alone: the "
    "client's mean TTFT less the server's own and a connection's round trip / the client's, above "
    f"{OUTSIDE_MS:g} ms and {OUTSIDE_SHARE:.0%}, which is never worse than SUSPECT",
    suspect=0.02,
    only=(f", and > {BUFFERED:g} events per read", ""),
    invalid=0.10,
    about=("all", "TTFT", "pace", "gaps"),
)
def buffered(facts: Facts) -> Iterator[Doubt]:
    """Tokens were held back on their way and came several at once."""
    found = token_events(facts)
    if found is not None and found.per_read > BUFFERED:
        yield from _held_back(facts, found)
    yield from _late_outside(facts)


UNBUFFERED = "switch buffering off in the proxy (nginx: proxy_buffering off), or go past it"


def _held_back(facts: Facts, found: TokenEvents) -> Iterator[Doubt]:
    figures = f"{found.per_read:.1f} token events per read"
    if found.in_one_read >= 0.5:
        whole = f"{figures}, and {found.in_one_read:.0%} of the replies came in one read"
        yield Doubt(whole, UNBUFFERED, 1.0)
        return
    yield Doubt(figures, UNBUFFERED, found.per_read - 1, about="gaps")
    ttft_ms, latency_ms = facts.ttft_p50_ms, facts.latency_p50_ms
    if not ttft_ms or not latency_ms or found.after_first <= 0 or latency_ms <= ttft_ms:
        return
    decode_ms = latency_ms - ttft_ms
    late_ms = (found.first - 1) * decode_ms / found.after_first
    figures += f", {found.first:.1f} in a reply's first: it came about {late_ms:.1f} ms late"
    yield Doubt(figures, UNBUFFERED, late_ms / ttft_ms, about="TTFT")
    yield Doubt(figures, UNBUFFERED, late_ms / (decode_ms + late_ms), about="pace")


def _late_outside(facts: Facts) -> Iterator[Doubt]:
    """Yield the part of TTFT that neither the server nor the network's distance explains."""
    side = server_side(facts)
    if side.ttft_outside_ms is None or side.client_ttft_mean_ms is None:
        return
    trip_ms = quantile(floats(facts.frame["connect_ms"]), 50) or 0.0
    late_ms = side.ttft_outside_ms - trip_ms
    if late_ms > max(OUTSIDE_MS, OUTSIDE_SHARE * side.client_ttft_mean_ms):
        yield Doubt(
            f"mean TTFT is {side.client_ttft_mean_ms:.0f} ms here and {side.ttft_mean_ms:.0f} ms "
            f"by the server's clock; a connection opens in {trip_ms:.1f} ms",
            f"look for what lies between: {UNBUFFERED}; or the server's API process is overloaded",
            late_ms / side.client_ttft_mean_ms,
            at_most=Severity.SUSPECT,
            about="TTFT",
        )


@check(
    "share of replies whose tokens can't be: more than max_tokens allows, or fewer than events "
    "that carried some. For prompts: |usage - /tokenize| / tokens, over all: rates, TPOT and "
    "lengths are only as right as usage",
    suspect=0.01,
    invalid=0.05,
    about=("pace", "all"),
)
def usage_contradicts(facts: Facts) -> Iterator[Doubt]:
    """The server's usage contradicts what was asked for, or what it sent."""
    rows: pd.DataFrame = facts.frame[facts.measured]
    if rows.empty:
        return
    advice = "usage can't be right: report it to whoever runs the server (a gateway in between?)"
    for wrong, words in (
        (rows["completion_tokens"] > rows["max_tokens"] * facts.choices, "more than max_tokens"),
        (rows["completion_tokens"] < rows["token_events"], "fewer than events with tokens"),
    ):
        share, figures = _share_of(wrong, rows)
        yield Doubt(f"usage of {figures} replies has {words}", advice, share)
    yield from _other_prompts(rows)


def _other_prompts(rows: pd.DataFrame) -> Iterator[Doubt]:
    known = rows[rows["prompt_tokens_planned"].notna() & rows["prompt_tokens"].notna()]
    planned, said = (floats(known[c]) for c in ("prompt_tokens_planned", "prompt_tokens"))
    if not planned.sum():
        return
    yield Doubt(
        f"prompts of {planned.mean():.1f} tokens by /tokenize have {said.mean():.1f} by usage",
        "prompts were cut or changed on their way, or another model counted them",
        float(np.abs(said - planned).sum() / planned.sum()),
        about="all",
    )


@check("figures of another model are right, but not what was asked for", suspect="any reply")
def other_model(facts: Facts) -> Doubt | None:
    """Replies name a model that wasn't asked for, and isn't another name of it."""
    said, aliases = facts.server("replied_as"), facts.server("aliases")
    own = {facts.setting("model"), facts.server("model_root")}
    own |= set(aliases) if isinstance(aliases, list) else set()
    others = [name for name in said if name not in own] if isinstance(said, dict) else []
    if not others:
        return None
    named = ", ".join(f"{said[name]} by {name}" for name in others)
    return Doubt(
        f"replies for {facts.setting('model')}: {named}",
        "look at what stands behind this address: a gateway may send requests elsewhere",
    )


@check(
    "share of the answers in conversations: the history of later turns lacks them, so prompts "
    "are shorter than in a real conversation",
    suspect=0.01,
)
def answers_without_text(facts: Facts) -> Doubt | None:
    """Answers had no visible text, so the conversations' history lacks them."""
    rows = _streamed(facts)
    rows = rows[rows["turn"].notna()]
    if rows.empty:
        return None
    share, words = _share_of(rows["ttft_visible_ms"].isna(), rows)
    return Doubt(
        f"{words} answers had no text but thoughts",
        "raise max_new_tokens, so that an answer follows the thoughts, or ask the model not to "
        "think (extra_body: chat_template_kwargs)",
        share,
    )


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
    share, words = _share_of(replies["completion_tokens"].fillna(-1) != asked, replies)
    return Doubt(
        f"{words} replies aren't as long as asked; mean "
        f"{floats(replies['completion_tokens']).mean():.1f} tokens",
        "check that prompt and max_new_tokens together fit MAX_MODEL_LEN, and that the endpoint "
        "honours ignore_eos (on chat, gpt-oss doesn't: use endpoint: completions)",
        share,
    )


MANY = 1.05  # tokens per chunk: real vLLM has 1.02 where its API process is late now and then


@check(
    f"above {MANY:g} a gap between chunks is no longer a gap between tokens, and ITL shares it "
    "among them; all else stays right",
    about=("gaps",),
)
def multi_token_chunks(facts: Facts) -> Doubt | None:
    """The server put several tokens in a chunk, so gaps between chunks aren't token gaps."""
    events = facts.total("token_events")
    if not facts.streaming or events == 0:
        return None
    ratio = facts.total("completion_tokens") / events
    if ratio <= MANY:
        return None
    return Doubt(
        f"{ratio:.2f} tokens per chunk",
        "gaps are those of chunks: serve with --stream-interval 1 and without speculative decoding "
        "to see single tokens; if that is so already, the API server was late",
        ratio,
    )
