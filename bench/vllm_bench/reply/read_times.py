"""How late replies were read, and how many of their reads brought several events.

Where the kernel stamps what comes, a read's own time less its stamp is how late the sending loop
was with it: the error that its stamps would have without the kernel's. One thing the kernel can't
tell: a loop that is later than the next event finds both in one read, with the stamp of the last.
So both belong together: lateness, and the reads that merged events.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records.request_record import RequestRecord
from .exchange import PackedSegment

US = 1000
QUANTILES = (0.5, 0.99)


def _rounded(late_us: int) -> int:
    """Return four digits of a lateness: so few values are counted, however long a run lasts."""
    if late_us < 10_000:
        return late_us
    step = 10 ** (len(str(late_us)) - 4)
    return int(late_us // step * step)


@dataclass(slots=True)
class ReadTimes:
    """The reads of a run's measured replies, from each reply's first token on."""

    # By us, how many reads were so late (0: no stamp of the kernel), of first tokens and others.
    first: Counter[int] = field(default_factory=Counter)
    later: Counter[int] = field(default_factory=Counter)
    token_events: int = 0
    token_reads: int = 0
    merged_reads: int = 0  # of these: brought several events
    first_reads: int = 0
    merged_first_reads: int = 0
    _begun: set[int] = field(default_factory=set)  # replies whose first token has come

    def segment(self, part: PackedSegment, token_stamps: Sequence[int]) -> None:
        """Take a part of a reply, and the stamps of the token events that came up to its end."""
        if not token_stamps or not part.lates:
            return
        lates_us = array("q", [_rounded(late // US) for late in array("q", part.lates)])
        if part.request_index in self._begun:
            self.later.update(lates_us)
            return
        self._begun.add(part.request_index)
        first = array("q", part.stamps).index(token_stamps[0])
        self.first[lates_us[first]] += 1
        self.later.update(lates_us[first + 1 :])

    def end(self, record: RequestRecord, token_stamps: Sequence[int]) -> None:
        """Take the end of a reply, and the stamps of its token events."""
        self._begun.discard(record.request_index)
        self.token_events += record.token_events
        self.token_reads += record.token_reads
        self.first_reads += record.token_reads > 0
        if record.token_reads < record.token_events:
            self.merged_reads += sum(count > 1 for count in Counter(token_stamps).values())
            self.merged_first_reads += token_stamps[1] == token_stamps[0]

    def facts(self) -> dict[str, Any]:
        """Return the entries of the run's JSON."""
        lates = {"ttft": _lateness_ms(self.first), "gaps": _lateness_ms(self.later)}
        return {
            "token_events": self.token_events,
            "token_reads": self.token_reads,
            "merged_reads": self.merged_reads,
            "first_reads": self.first_reads,
            "merged_first_reads": self.merged_first_reads,
            "lateness_ms": {name: found for name, found in lates.items() if found} or None,
        }

    def so_far(self) -> tuple[float, float] | None:
        """Return how late tokens were read (ms, p99), and the share of reads that merged events.

        None where the kernel doesn't tell, or nothing has ended.
        """
        late = _lateness_ms(self.later)
        if late is None or not self.token_reads:
            return None
        return float(late["p99"]), self.merged_reads / self.token_reads


def _lateness_ms(lates_us: Counter[int]) -> dict[str, float | int] | None:
    """Return count, quantiles and maximum in ms; None where no read had a stamp of the kernel's."""
    known = sorted((late, count) for late, count in lates_us.items() if late)
    reads = sum(count for _, count in known)
    if not reads:
        return None
    found: dict[str, float | int] = {"reads": reads}
    for q in QUANTILES:
        rank = round(q * (reads - 1))
        found[f"p{q * 100:g}"] = next(late for late, upto in _upto(known) if upto > rank) / 1000
    return {**found, "max": known[-1][0] / 1000}


def _upto(known: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield each value, and how many values there are up to it."""
    upto = 0
    for late, count in known:
        upto += count
        yield late, upto
