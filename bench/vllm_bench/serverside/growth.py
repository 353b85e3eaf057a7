"""Counters and gauges of any family over a run, from all that the server said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..figures.absent import Why, observed
from ..figures.facts import Facts
from ..records.beside.families import family
from ..records.beside.said_file import Said, Series
from ..records.text import printable
from ..stats.batches import Values
from ..stats.distribution import floats
from .ledger import server_change
from .over_time import Samples

WHY_APART = {
    "server_restarted": "the server restarted during the run: its counters began anew",
    "replicas": "several servers answered in turn, each with its own counters",
}
LATE_S = 3.0  # from the last reading on: three readings that didn't come
MOST_KINDS = 20  # values of one label
MOST_TEXT = 60  # characters of one


def why_not_grown(facts: Facts) -> Why | None:
    """Return why counters of the run's first reading and its last have no difference.

    Of replicas each has one of its own, where they tell their starts.
    """
    if (short_s := _unread_s(facts)) > LATE_S:
        return Why(f"the server's metrics weren't read in the run's last {short_s:.0f} s")
    change = server_change(facts)
    starts = observed(facts.info, "server_metrics").noted.get("server_started")
    if change is None or (change == "replicas" and starts):
        return None
    return Why(WHY_APART[change])


def _unread_s(facts: Facts) -> float:
    """Return how long after the last reading replies still came."""
    ends_s = floats(facts.succeeded["t_end_s"])
    if facts.said is None or not len(facts.said.t_s) or not ends_s.size:
        return 0.0
    return float(ends_s.max() - facts.said.t_s[-1])


def series_of(said: Said, name: str) -> Iterator[Series]:
    """Yield the series of a family, whichever of its names they have."""
    return (one for one in said.series if family(one.name) == name)


def grown(said: Said, name: str, label: str = "") -> dict[str, float]:
    """Return by how much a family's counters grew over the run, by a label or together.

    Summed over engines, and over servers that answered in turn. One that a server didn't have at
    its first reading was 0. Nothing: there is no such family.
    """
    found: dict[str, float] = {}
    for one in series_of(said, name):
        kind = printable(one.labels.get(label, ""), MOST_TEXT)
        if kind in found or len(found) < MOST_KINDS:
            found[kind] = found.get(kind, 0.0) + sum(_grown(said, one))
    return found


def _grown(said: Said, one: Series) -> Iterator[float]:
    """Yield by how much a series grew on each server."""
    values = one.over(len(said.t_s))
    for server in np.unique(said.server):
        own = values[said.server == server]
        yield 0.0 if np.isnan(own[-1]) else float(own[-1] - np.nan_to_num(own[0]))


def by_server(facts: Facts, name: str) -> list[float]:
    """Return a family's growth on each of the servers that answered in turn, where they differ.

    Each between the server's own first reading and its last.
    """
    said = facts.said
    if said is None or not observed(facts.info, "server_metrics").noted.get("server_started"):
        return []
    parts = [list(_grown(said, one)) for one in series_of(said, name)]
    return [sum(own) for own in zip(*parts, strict=True)] if parts else []


def total(said: Said, name: str) -> float | None:
    """Return a family's growth over all of its series; None: there is no such family."""
    found = grown(said, name)
    return sum(found.values()) if found else None


def over_time(facts: Facts, name: str, wanted: Mapping[str, str]) -> Samples | None:
    """Return a gauge's sum over the series with these labels, in the time that is judged."""
    said, window = facts.said, facts.judged
    if said is None or window is None:
        return None
    chosen = [s for s in series_of(said, name) if wanted.items() <= s.labels.items()]
    if not chosen:
        return None
    table = np.array([one.over(len(said.t_s)) for one in chosen])
    there = ~np.isnan(table).all(axis=0)
    values: Values = np.where(there, np.nansum(table, axis=0), np.nan)
    inside = (said.t_s >= window.start_s) & (said.t_s <= window.end_s)
    return Samples.of(said.t_s[inside], values[inside])
