"""Which numbers (of connections) are whose, read off the rows of several machines.

Numbers are dealt to machines in rounds: those at the same places of each round are one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...records.row import Rows
from ..in_flight import waited_for_cap

LONGEST_ROUND = 1024  # that is looked for; beyond it all numbers are one round


@dataclass(frozen=True, slots=True)
class Dealt:
    """A machine's own numbers: those at `places` of each round of `period`."""

    period: int
    places: NDArray[np.int64]  # ascending

    def below(self, end: int) -> int:
        """Return how many of them are below `end`."""
        rounds, rest = divmod(end, self.period)
        return rounds * self.places.size + int((self.places < rest).sum())

    def ranks(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of its own are below each of these numbers of its own."""
        rounds, place = np.divmod(numbers, self.period)
        found: NDArray[np.int64] = rounds * self.places.size + np.searchsorted(self.places, place)
        return found


def dealt_to(rows: Rows) -> dict[str, Dealt]:
    """Return each machine's own numbers, by the shortest round that explains the rows'."""
    names, owner = np.unique(rows["machine"].astype(str), return_inverse=True)
    number, first = np.unique(rows["stream_index"].astype(np.int64), return_index=True)
    owner, whole = owner[first], int(number.max(initial=0)) + 1
    for period in (*range(1, min(whole, LONGEST_ROUND)), whole):
        owners = np.full(period, -1, dtype=np.int64)
        owners[number % period] = owner
        if np.array_equal(owners[number % period], owner):
            break
    places = (np.flatnonzero(owners == machine) for machine in range(len(names)))
    return {str(name): Dealt(period, mine) for name, mine in zip(names, places, strict=True)}


def waited_by_machine(rows: Rows, cap: int, senders: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return which rows' requests waited for their machine's share of a cap.

    `senders`: sending processes of each machine, which share what it has.
    """
    waited = np.zeros(len(rows), dtype=bool)
    for name, own in dealt_to(rows).items():
        which = rows["machine"].astype(str) == name
        mine = rows.of(which)
        ranked = Rows({**mine.columns, "stream_index": own.ranks(mine["stream_index"])})
        processes = max(1, senders.get(name, 1))
        waited[which] = waited_for_cap(ranked, own.below(cap), processes)
    return waited
