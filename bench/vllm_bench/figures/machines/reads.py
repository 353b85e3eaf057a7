"""How runs were stamped and read, in words; where machines differ, by machine."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.run_info import RunInfo
from ..client import reads_of
from .machine import clock_words


def reads_in_words(infos: Sequence[RunInfo | None]) -> str:
    """Return how runs were stamped and read, the worst of each figure; empty: unknown."""
    found = [reads for reads in map(reads_of, infos) if reads is not None]
    if not found:
        return ""
    told = dict.fromkeys(words for info in infos if info if (words := clock_words(info)))
    clocks = " or ".join(told)
    late = [
        f"{what} {_ms(max(o.p50_ms for o in of))} p50, {_ms(max(o.p99_ms for o in of))} p99, "
        f"{_ms(max(o.max_ms for o in of))} at most"
        for what, of in (
            ("first tokens", [reads.ttft for reads in found if reads.ttft]),
            ("later ones", [reads.gaps for reads in found if reads.gaps]),
        )
        if of
    ]
    parts = [f"stamped by the {clocks}"]
    parts += [f"read later by (ms): {'; '.join(late)}"] if late else []
    merged = max((reads.merged or 0.0 for reads in found), default=0.0)
    first = max((reads.first_merged or 0.0 for reads in found), default=0.0)
    parts.append(
        f"{merged:.2%} of the reads, {first:.2%} of the first ones, brought several events, of "
        "which only the last is told exactly"
    )
    return "tokens: " + "; ".join(parts)


def _ms(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
