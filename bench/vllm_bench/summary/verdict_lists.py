"""Findings of many runs, told once each: the same sentence about ten runs is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..verdict.finding import Finding
from ..verdict.verdict import LEVELS
from .summary import RunSummary


@dataclass(frozen=True, slots=True)
class SharedFinding:
    """A finding and the runs that it is about."""

    finding: Finding
    runs: tuple[RunSummary, ...]


def headline(summaries: Sequence[RunSummary]) -> str:
    """Return how many runs got which verdict: `2 VALID, 1 SUSPECT`."""
    counts = Counter(s.verdict.level for s in summaries)
    return ", ".join(f"{counts[level]} {level}" for level in LEVELS.values() if counts[level])


def shared_notes(summaries: Sequence[RunSummary]) -> list[SharedFinding]:
    """Return the notes, each with the runs that it is about."""
    found: dict[Finding, list[RunSummary]] = {}
    for summary in summaries:
        for note in summary.verdict.notes:
            found.setdefault(note, []).append(summary)
    return [SharedFinding(note, tuple(runs)) for note, runs in found.items()]
