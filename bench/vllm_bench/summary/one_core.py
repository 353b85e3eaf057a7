"""How many events a second one sending core takes, found by doubling."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..figures.client import busiest_cpu_share
from ..figures.digits import markdown_table, short
from .summary import RunSummary

FIRST_PER_S = 12_500
LATE_MS = 1.0  # own stamp less the kernel's, at p99: a loop that keeps up
MERGED_PERCENT = 0.1  # of reads with several events; as for a level that is exact
# The source's own share of such reads must be small beside that, and it must keep its pace.
BUNCHED_PERCENT, SHORT_OF_PACE = 0.02, 0.9
HEADINGS = (
    "events/s asked", "sent", "streams", "first tokens read late p99", "later ones p99",
    "reads with several events, %", "of first reads, %", "core's busiest second, %",
    "source late p99", "bunched by the source, %",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CoreLevel:
    """One rate. Times in ms; shares in percent; None: the run's JSON doesn't say."""

    asked_per_s: float
    sent_per_s: float  # over the steady window
    streams: float
    first_late_p99_ms: float | None  # own stamp less the kernel's, of first tokens
    late_p99_ms: float | None  # of later ones
    merged_percent: float | None
    first_merged_percent: float | None
    busy_percent: float | None
    source_late_p99_ms: float
    bunched_percent: float  # events that the source sent a whole gap late, or later

    @property
    def source_ended(self) -> bool:
        """Whether the source, and not the client, was the limit."""
        slow = self.sent_per_s < SHORT_OF_PACE * self.asked_per_s
        return slow or self.bunched_percent > BUNCHED_PERCENT

    @property
    def holds(self) -> bool:
        """Whether the client took this rate: nearly every read soon enough, and of one event."""
        late = [self.first_late_p99_ms, self.late_p99_ms]
        shares = [self.merged_percent, self.first_merged_percent]
        return all(ms is not None and ms <= LATE_MS for ms in late) and all(
            share is not None and share <= MERGED_PERCENT for share in shares
        )


def core_level(
    summary: RunSummary, asked_per_s: float, sent: Sequence[Mapping[str, float]]
) -> CoreLevel:
    """Return one run's figures; `sent`: what each process of the source says of itself."""
    reads, rates = summary.client_reads, summary.steady or summary.throughput
    busy = busiest_cpu_share(summary.info)
    events = sum(one["events"] for one in sent) or 1
    return CoreLevel(
        asked_per_s=asked_per_s,
        sent_per_s=(rates.output_tokens or 0.0) / rates.span_s if rates else 0.0,
        streams=summary.concurrency or 0,
        first_late_p99_ms=reads.ttft.p99_ms if reads and reads.ttft else None,
        late_p99_ms=reads.gaps.p99_ms if reads and reads.gaps else None,
        merged_percent=percent(reads.merged if reads else None),
        first_merged_percent=percent(reads.first_merged if reads else None),
        busy_percent=percent(busy),
        source_late_p99_ms=max((one["late_p99_us"] / 1000 for one in sent), default=0.0),
        bunched_percent=100 * sum(one["bunched"] for one in sent) / events,
    )


def percent(share: float | None) -> float | None:
    """Return a share in percent."""
    return None if share is None else 100 * share


def next_rate(levels: Sequence[CoreLevel]) -> float | None:
    """Return the rate to try next: twice the last while it held, then once half-way back."""
    if not levels:
        return FIRST_PER_S
    last = levels[-1]
    if any(not level.holds or level.source_ended for level in levels[:-1]):
        return None  # the way back was tried
    if last.holds and not last.source_ended:
        return 2 * last.asked_per_s
    return 0.75 * last.asked_per_s if levels[:-1] else None


def median_level(repeats: Sequence[CoreLevel]) -> CoreLevel:
    """Return the medians of one rate's repeats; absent where it is in any of them."""
    columns = zip(*map(dataclasses.astuple, repeats), strict=True)
    middle: list[Any] = [None if None in c else statistics.median(c) for c in columns]
    return CoreLevel(*middle)


def judged(levels: Sequence[CoreLevel]) -> str:
    """Return in a line what one core takes."""
    held = [level for level in levels if level.holds and not level.source_ended]
    limit = f"own - kernel p99 <= {LATE_MS:g} ms and <= {MERGED_PERCENT:g} % merged reads"
    if not held:
        return f"One sending core takes less than {levels[0].asked_per_s:,.0f} events/s at {limit}."
    most = max(level.sent_per_s for level in held)
    ended = min((x.asked_per_s for x in levels if x.source_ended), default=None)
    missed = min((x.asked_per_s for x in levels if not (x.holds or x.source_ended)), default=None)
    said = f"One sending core takes {most:,.0f} events/s at {limit}, hand-over included"
    if missed is not None:
        return f"{said}; not {missed:,.0f}."
    if ended is not None:
        return f"{said}, or more: at {ended:,.0f} the source was the limit."
    return f"{said}."


def to_markdown(levels: Sequence[CoreLevel]) -> str:
    """Return the table, a row for each rate; times in ms."""
    rows = [[*map(_cell, dataclasses.astuple(level))] for level in levels]
    return markdown_table([HEADINGS, ["--:"] * len(HEADINGS), *rows])


def _cell(value: float | None) -> str:
    if value is not None and value >= 1000:
        return f"{value:,.0f}"
    return short(value)
