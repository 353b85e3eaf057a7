"""Doubts about tokens on their way: held back by something between, or read too late to be told
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..figures.client import exactness, lateness_p99_ms, trip_ms
from ..figures.facts import Facts
from ..figures.token_gaps import TokenReads
from ..records.row import Rows
from ..serverside.server import server_side
from ..stats.batches import Values
from ..stats.distribution import floats, quantile
from .advice import MORE_CLIENT
from .finding import Doubt, Severity, check

# Events a read. Less can be chance: two tokens may come close to each other.
BUFFERED = 1.2
OUTSIDE_MS, OUTSIDE_SHARE = 20.0, 0.20
MIN_EVENTS = 3  # a reply of fewer can't show whether its events came one by one


@dataclass(frozen=True, slots=True)
class TokenEvents:
    """Events and reads of the replies that had at least three events.

    Of n choices in one stream n events at a time are one each: such are counted as one.
    """

    events: float
    reads: int
    in_one_read: float  # share of the replies that came in a single read
    first: float  # events in the first read of a reply, on average
    first_merged: float  # share of the replies whose first read had several
    replies: int

    @property
    def per_read(self) -> float:
        return self.events / self.reads

    @property
    def after_first(self) -> float:
        """Events after the first read of a reply, on average."""
        return self.events / self.replies - self.first


def token_events(facts: Facts) -> TokenEvents | None:
    """Return how the replies' events came; None where no reply had enough of them."""
    rows = facts.frame.of(facts.measured & (facts.frame["token_events"] >= MIN_EVENTS))
    if not len(rows):
        return None
    events, reads = rows["token_events"].sum() / facts.choices, int(rows["token_reads"].sum())
    known = facts.counted_reads
    first = None if known is None else _first(rows, known) / facts.choices
    if first is None or not first.size:
        first = np.full(len(rows), events / reads)  # as in any other read
    return TokenEvents(
        events=events,
        reads=reads,
        in_one_read=float((rows["token_reads"] == 1).mean()),
        first=float(first.mean()),
        first_merged=float((first > 1.5).mean()),
        replies=len(rows),
    )


def _first(rows: Rows, reads: TokenReads) -> Values:
    """Return the events in the first read of each reply whose stamps were kept."""
    _, mine, theirs = np.intersect1d(
        rows["request_index"], reads.requests, assume_unique=True, return_indices=True
    )
    of = rows.of(mine)
    tokens = reads.tokens[np.isnan(reads.wait_ms)][theirs]
    events = tokens * of["token_events"] / of["completion_tokens"]
    # Where each event had a read of its own, one event may still have had several tokens.
    return np.where(of["token_events"] == of["token_reads"], 1.0, events)


@check(
    "error that they bring into the median: events after the first in a reply's first read, times "
    "the gap between events / the median TTFT, and / the time from first to last token (all of "
    "it where most replies came in one read); for gaps, events per read - 1. Or, TTFT alone: the "
    "client's mean TTFT less the server's own, a connection's round trip and the client's own "
    "lateness / the client's, above "
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
    yield from _in_one_event(facts)
    yield from _late_outside(facts)


UNBUFFERED = "switch buffering off in the proxy (nginx: proxy_buffering off), or go past it"
LUMPS = (
    f"{UNBUFFERED}; where there is none, the server was late and wrote them at once: "
    "its process lacks a core"
)


def _held_back(facts: Facts, found: TokenEvents) -> Iterator[Doubt]:
    figures, late, advice = f"{found.per_read:.1f} token events per read", "", LUMPS
    if late_ms := _late_ms(facts):  # a client that reads late finds them together, too
        late = f"; reads were {late_ms:.0f} ms late at p99"
        advice = f"{MORE_CLIENT}; if it isn't that, {LUMPS}"
    if found.in_one_read >= 0.5:
        whole = f"{figures}, and {found.in_one_read:.0%} of the replies came in one read{late}"
        yield Doubt(whole, advice, 1.0)
        return
    yield Doubt(figures + late, advice, found.per_read - 1, about="gaps")
    ttft_ms, latency_ms = facts.ttft_p50_ms, facts.latency_p50_ms
    if not ttft_ms or not latency_ms or found.after_first <= 0 or latency_ms <= ttft_ms:
        return
    decode_ms = latency_ms - ttft_ms
    late_ms = (found.first - 1) * decode_ms / found.after_first
    figures += f", {found.first:.1f} in a reply's first: it came about {late_ms:.1f} ms late{late}"
    yield Doubt(figures, advice, late_ms / ttft_ms, about="TTFT")
    yield Doubt(figures, advice, late_ms / (decode_ms + late_ms), about="pace")


def _late_ms(facts: Facts) -> float | None:
    """Return how late reads were, where that is half a gap between tokens or more."""
    gap_ms, late_ms = facts.token_gap_p50_ms, lateness_p99_ms(facts.info)
    return late_ms if gap_ms and late_ms is not None and late_ms >= gap_ms / 2 else None


def _in_one_event(facts: Facts) -> Iterator[Doubt]:
    """Yield that streams were none: the server may be set so, and TTFT is the latency."""
    rows = facts.frame.of(facts.measured & (facts.frame["completion_tokens"] >= MIN_EVENTS))
    whole = float((rows["token_events"] == 1).mean()) if len(rows) else 0.0
    if whole >= 0.5:
        yield Doubt(
            f"{whole:.0%} of the replies came in a single event: TTFT is the latency",
            f"{UNBUFFERED}, or lower the server's --stream-interval",
            1.0,
            at_most=Severity.SUSPECT,
        )


def _late_outside(facts: Facts) -> Iterator[Doubt]:
    """Yield the part of TTFT that neither the server nor the network's distance explains."""
    side = server_side(facts)
    if side.ttft_outside_ms is None or side.client_ttft_mean_ms is None:
        return
    away_ms = _trip_ms(facts) or 0.0
    exact = exactness(facts.info)  # a late client isn't something in between
    late_ms = side.ttft_outside_ms - away_ms - (exact.ttft_ms if exact else 0.0)
    if late_ms > max(OUTSIDE_MS, OUTSIDE_SHARE * side.client_ttft_mean_ms):
        yield Doubt(
            f"mean TTFT is {side.client_ttft_mean_ms:.0f} ms here and {side.ttft_mean_ms:.0f} ms "
            f"by the server's clock; a connection opens in {away_ms:.1f} ms",
            f"look for what lies between: {UNBUFFERED}; or the server's API process is overloaded",
            late_ms / side.client_ttft_mean_ms,
            at_most=Severity.SUSPECT,
            about="TTFT",
        )


def _trip_ms(facts: Facts) -> float | None:
    """Return how long the way to the server and back is, in ms: the mean of all requests."""
    parts = [(part.rows, trip_ms(part.info)) for part in facts.machines.values() or [facts]]
    told = [(rows, ms) for rows, ms in parts if rows and ms is not None]
    if told:
        return sum(rows * ms for rows, ms in told) / sum(rows for rows, _ in told)
    return quantile(floats(facts.frame["connect_ms"]), 50)  # before 11/2026 nothing else told


@check(
    "a gap is between tokens of any of the choices; TPOT is that of a choice as long as their mean",
    invalid="any run with n > 1",
    about=("gaps",),
)
def several_choices(facts: Facts) -> Doubt | None:
    """Each request asks for several completions (`n`), whose tokens come in one stream."""
    if facts.choices < 2 or not facts.streaming:
        return None
    figures = f"ITL and gaps are of {facts.choices} choices in one stream: shorter than a reader's"
    return Doubt(figures, "ask for one (extra_body: n) to see them")


@check(
    "share of token events that came in one read with others, of a client that was late by half a "
    "gap or more at p99 (by the kernel's stamps, else by its loop's lag): their gaps weren't seen. "
    "For TTFT: one gap / the median TTFT, where in over 1 % of the replies the first two events "
    "came together (INVALID: over 10 %)",
    suspect=0.02,
    invalid=0.10,
    about=("gaps", "TTFT"),
    silenced_by=("buffered",),
)
def merged_reads(facts: Facts) -> Iterator[Doubt]:
    """The client came too late to tell tokens apart that the server sent one by one."""
    found, gap_ms = token_events(facts), facts.token_gap_p50_ms
    late_ms = lateness_p99_ms(facts.info)
    if found is None or not gap_ms or (late_ms is not None and late_ms < gap_ms / 2):
        return
    merged = 1 - found.reads / found.events
    yield Doubt(
        f"{merged:.1%} of {found.events:.0f} token events came in a read with an earlier one",
        f"{MORE_CLIENT}; ITL and gaps are those of reads",
        merged,
    )
    if found.first_merged > 0.01 and facts.ttft_p50_ms:
        yield Doubt(
            f"in {found.first_merged:.1%} of the replies the first two events came together, "
            f"{gap_ms:.1f} ms apart as sent",
            MORE_CLIENT,
            gap_ms / facts.ttft_p50_ms,
            at_most=Severity.INVALID if found.first_merged > 0.10 else Severity.SUSPECT,
            about="TTFT",
        )
