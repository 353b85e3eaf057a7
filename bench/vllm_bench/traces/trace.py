"""Recorded traffic: when requests came, and how long they were. The content decides the format.

azure     TIMESTAMP,ContextTokens,GeneratedTokens
          2023-11-16 18:15:46.6805900,374,44
mooncake  {"timestamp": 40, "input_length": 640, "output_length": 3, "hash_ids": [151, 152]}
          milliseconds; an id names a block of 512 prompt tokens, and equal ids equal text
burstgpt  Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
          5,ChatGPT,472,18,490,Conversation log
run       a `<run_id>.csv` of this project: its t_scheduled_s, prompt_tokens, and as output
          completion_tokens, or max_tokens where no completion came

Times are integers in nanoseconds until the first time is subtracted: a double can't hold both a
date and ten-millionths of a second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BenchError
from .possible import Seen
from .rows import BLOCK_TOKENS, Row, RowError, TraceKind, read_rows
from .steps import spread

MOST_S = 1e9  # thirty years; nanoseconds of more don't fit


class TraceError(BenchError):
    """A trace that can't be used; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace."""

    at_s: float  # from the first one, at the speed of the replay
    prompt_tokens: int | None  # None: the trace doesn't know, its request failed
    output_tokens: int | None
    block_ids: tuple[int, ...] | None = None  # of the prompt's blocks of BLOCK_TOKENS tokens


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their times; the first of the file is at 0."""

    kind: TraceKind
    requests: tuple[TraceRequest, ...]
    notes: tuple[str, ...] = ()  # for people: what was left out

    @property
    def shared_share(self) -> float | None:
        """Share of the prompt tokens that a cache which never forgets would find, 0 to 1.

        Those of blocks that an earlier request began with too; a prompt's last block may be a
        part of one, and is found where the whole prompt came before. None: blocks aren't known.
        """
        if all(request.block_ids is None for request in self.requests):
            return None
        return sum(self.commons()) / sum(request.prompt_tokens or 0 for request in self.requests)

    def commons(self) -> list[int]:
        """Return how many tokens of each request an earlier one began with, in their order."""
        seen = Seen()
        return [
            seen.common(request.block_ids or (), request.prompt_tokens or 0, BLOCK_TOKENS)
            for request in self.requests
        ]

    def within(self, max_model_len: int) -> Trace:
        """Return the trace without the requests that a server of this context can't hold."""
        kept = tuple(
            request
            for request in self.requests
            if (request.prompt_tokens or 0) + (request.output_tokens or 0) <= max_model_len
        )
        left_out = len(self.requests) - len(kept)
        if not left_out:
            return self
        note = f"{left_out} of {len(self.requests)} requests left out: longer than {max_model_len}"
        return replace(self, requests=kept, notes=(*self.notes, f"{self.kind}: {note} tokens"))


def read_trace(
    path: Path, *, speed: float = 1.0, limit_s: float | None = None, limit_count: int | None = None
) -> Trace:
    """Read a trace that is replayed `speed` times as fast as it was recorded.

       `limit_s` keeps the requests before that time of the replay, `limit_count` the first ones.
    Raises TraceError naming the file, the line, what was given and what is expected.
    """
    if not 0 < speed < math.inf:
        raise ValueError(f"speed must be above 0, not {speed}")
    try:
        kind, rows = read_rows(path)
        kept, notes = _usable(rows)
        if kind == "mooncake":
            kept, spreading = spread(kept)
            notes += [spreading] if spreading else []
    except RowError as e:
        raise TraceError(f"{path}: {e}") from e
    if not kept:
        raise TraceError(f"{path}: no requests" + "".join(f": {note}" for note in notes))
    requests: Iterable[TraceRequest] = _replayed(kept, speed)
    if limit_s is not None:
        requests = itertools.takewhile(lambda request: request.at_s < limit_s, requests)
    chosen = tuple(itertools.islice(requests, limit_count))
    if chosen[-1].at_s > MOST_S:
        raise TraceError(
            f"{path}: the replay would last {chosen[-1].at_s:.3g} s: set duration_s, num_requests "
            "or a higher speed, or look at its first and last time"
        )
    if len(chosen) < len(kept):
        notes.append(f"the first {len(chosen)} of its {len(kept)} requests")
    return Trace(kind, chosen, tuple(f"{kind}: {note}" for note in notes))


def _usable(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows that are requests, sorted by time, and notes on what was left out."""
    given = list(rows)
    kept = [row for row in given if row.prompt_tokens != 0 and row.output_tokens != 0]
    notes = []
    if len(kept) < len(given):
        notes.append(f"{len(given) - len(kept)} rows of zero tokens left out")
    if any(later.at_ns < row.at_ns for row, later in itertools.pairwise(kept)):
        notes.append("rows sorted by time")
        kept.sort(key=lambda row: row.at_ns)
    return kept, notes


def _replayed(rows: list[Row], speed: float) -> Iterable[TraceRequest]:
    start_ns = rows[0].at_ns
    for row in rows:
        at_s = (row.at_ns - start_ns) / 1e9 / speed
        yield TraceRequest(at_s, row.prompt_tokens, row.output_tokens, row.block_ids)
