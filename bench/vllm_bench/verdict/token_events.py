"""How token events came in reads: one by one as a server sends them, or several at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..figures.facts import Facts
from ..figures.statistics import Values
from ..figures.token_gaps import TokenReads

MIN_EVENTS = 3  # a reply of fewer can't show whether its events came one by one


@dataclass(frozen=True, slots=True)
class TokenEvents:
    """Events and reads of the replies that had at least three events."""

    events: int
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
    rows = facts.frame[facts.measured & (facts.frame["token_events"] >= MIN_EVENTS)]
    if rows.empty:
        return None
    events, reads = int(rows["token_events"].sum()), int(rows["token_reads"].sum())
    first = None if facts.counted_reads is None else _first(rows, facts.counted_reads)
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


def _first(rows: pd.DataFrame, reads: TokenReads) -> Values:
    """Return the events in the first read of each reply whose stamps were kept."""
    columns = ["token_events", "token_reads", "completion_tokens"]
    of = rows.set_index("request_index")[columns].astype("float64").reindex(reads.requests)
    tokens = reads.tokens[np.isnan(reads.wait_ms)]
    events = tokens * of["token_events"] / of["completion_tokens"]
    # Where each event had a read of its own, one event may still have had several tokens.
    alone = of["token_events"] == of["token_reads"]
    found: Values = events.where(~alone, 1.0)[of["token_events"].notna()].to_numpy()
    return found
