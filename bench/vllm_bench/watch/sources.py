"""Whose counters a page shows: one server's, a restarted one's, or another replica's.

Behind one address there may be several servers that answer in turn. Their counters jump back and
forth, and what lies between two of them is nobody's work. A server whose clock is set tells another
start, but its counters go on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Literal

from ..records.beside.families import TOTALS
from ..vllm.page import Engine

Change = Literal["server_restarted", "replicas"]
CLOCKS_APART_S = 5.0  # between this machine's wall clock and the server's
SOON = 3  # readings: a server that began anew doesn't pass its old counters within these
SHARE = 0.1  # of the largest sum that was seen
PLAUSIBLE = 10  # times the most that counters grew between two readings of one server
MOST_SOURCES = 64


class Sources:
    """Tells one server's readings from another's."""

    def __init__(self) -> None:
        self.change: Change | None = None
        self.started: list[float] = []  # when each server that answered began, as it says
        self.went_back = False  # counters shrank, though the server is the same
        self._first_wall_s: float | None = None
        self._by_counters = _ByCounters()
        self._last: tuple[float, Engine, float] | None = None
        self._grew = 0.0  # the most from one reading to the next
        self._returns = 0  # to a start that was told before
        self._same: dict[float, float] = {}  # a start after a clock was set, and the one before

    def of(
        self, started_s: float | None, engines: Iterable[str], together: Engine, wall_s: float
    ) -> Hashable:
        """Return a key of the server whose reading this is, made at `wall_s`."""
        if self._first_wall_s is None:
            self._first_wall_s = wall_s
        if started_s is None:
            self._change(self._by_counters.take(frozenset(engines), together))
            return self._by_counters.key
        last, self._last = self._last, (started_s, together, wall_s)
        if last is not None:
            self._compared(last, started_s, together, wall_s)
        if started_s not in self.started and len(self.started) < MOST_SOURCES:
            self.started.append(started_s)
        return self._same.get(started_s, started_s)

    def _compared(
        self, last: tuple[float, Engine, float], started_s: float, now: Engine, wall_s: float
    ) -> None:
        before_s, before, read_s = last
        fell, grew = restarted(before, now), _total(now) - _total(before)
        if before_s == started_s:
            self.went_back |= fell
            self._grew = max(self._grew, grew)
            return
        self._returns += started_s in self.started
        began = read_s - CLOCKS_APART_S <= started_s <= wall_s + CLOCKS_APART_S
        goes_on = grew <= max(PLAUSIBLE * self._grew, SHARE * _total(before)) and not fell
        if goes_on and not began and self._returns < 2:
            # The server's clock was set, by which it tells when it began.
            self._same[started_s] = self._same.get(before_s, before_s)
            return
        there = started_s < (self._first_wall_s or 0.0) - CLOCKS_APART_S  # all the time
        self._change("replicas" if self._returns or there else "server_restarted")
        self._same.clear()

    def _change(self, change: Change | None) -> None:
        if self.change != "replicas" and change is not None:
            self.change = change


class _ByCounters:
    """Tells them apart where a page doesn't say when its server began."""

    def __init__(self) -> None:
        self.key = 0
        self._last: Engine | None = None
        self._engines: list[frozenset[str]] = []
        self._lowest = self._high = 0.0
        self._since_drop = SOON

    def take(self, engines: frozenset[str], now: Engine) -> Change | None:
        """Return what the reading shows; `key` is another one if it isn't the last one's server."""
        change = self._by_engines(engines) or self._by_totals(now)
        self._last = now
        self.key += change is not None
        return change

    def _by_engines(self, engines: frozenset[str]) -> Change | None:
        back = bool(self._engines) and self._engines[-1] != engines and engines in self._engines
        if engines not in self._engines[-1:] and len(self._engines) < MOST_SOURCES:
            self._engines.append(engines)
        return "replicas" if back else None

    def _by_totals(self, now: Engine) -> Change | None:
        total, last = _total(now), self._last
        self._since_drop += 1
        if last is None:
            self._lowest = total
            return None
        if restarted(last, now):
            self._high, self._since_drop = max(self._high, _total(last)), 0
            # A restarted server has counted next to nothing; a replica has its share.
            back = total >= self._lowest > SHARE * self._high
            self._lowest = min(self._lowest, total)
            return "replicas" if back else "server_restarted"
        if self._since_drop >= SOON or not _total(last) < self._high <= total:
            return None
        jumped_back = total - self._high < (total - _total(last)) / 2
        return "replicas" if jumped_back else None


def _total(engine: Engine) -> float:
    return sum(engine.values.get(name, 0.0) for name in TOTALS)


def restarted(before: Engine, now: Engine) -> bool:
    """Whether a counter has shrunk: the server was started anew, or it is another one."""
    counts = [(b.count, now.spent[n].count) for n, b in before.spent.items() if n in now.spent]
    totals = [
        (before.values[c], now.values[c]) for c in TOTALS if c in before.values and c in now.values
    ]
    return any(new < old for old, new in (*counts, *totals))
