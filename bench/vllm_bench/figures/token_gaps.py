"""When each token came: gaps between tokens and between reads, from `tokens/<run_id>.npz`.

A read that brought k tokens after a wait of g gives k gaps between tokens of g / k each (ITL,
weighted by tokens), and one chunk gap of g: how long a reader of the stream waited.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.beside.token_file import read_stamps
from ..records.row import Rows
from ..stats.batches import Values

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class TokenReads:
    """The reads that brought tokens to a run's successes, request after request."""

    t_ns: NDArray[np.int64]  # their stamps, from the run's start
    tokens: NDArray[np.float32]  # that each brought; where `exact` is false, partly an average
    wait_ms: Values  # since the read before it; NaN: the first of its request
    exact: bool  # the server reported how many tokens each event had
    requests: NDArray[np.int32]  # request_index of each request that has reads, in their order

    @cached_property
    def _later(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.wait_ms)

    @cached_property
    def chunk_gap_ms(self) -> Values:
        return self.wait_ms[self._later]

    @cached_property
    def tokens_after_gap(self) -> NDArray[np.float32] | None:
        """Tokens after each of `chunk_gap_ms`, the weights of `itl_ms`; None: one after each."""
        found = self.tokens[self._later]
        return None if (found == 1).all() else found

    @cached_property
    def itl_ms(self) -> Values:
        """Waits, shared among the tokens that ended them."""
        tokens = self.tokens_after_gap
        return self.chunk_gap_ms if tokens is None else self.chunk_gap_ms / tokens

    def among(self, requests: NDArray[np.integer[Any]]) -> TokenReads:
        """Return the reads of these requests alone (request_index of each)."""
        kept = np.isin(self.requests, requests)
        per_read = np.repeat(kept, np.diff(self._begins, append=self.t_ns.size))
        return TokenReads(
            self.t_ns[per_read],
            self.tokens[per_read],
            self.wait_ms[per_read],
            self.exact,
            self.requests[kept],
        )

    @cached_property
    def _begins(self) -> NDArray[np.intp]:
        """The first read of each of `requests`."""
        return np.flatnonzero(~self._later)

    @cached_property
    def gap_owner(self) -> NDArray[np.int32]:
        """The request_index of each of `chunk_gap_ms`."""
        return self.owner(np.flatnonzero(self._later))

    def owner(self, places: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the request_index that each of these reads belongs to."""
        return self.requests[np.searchsorted(self._begins, places, side="right") - 1]

    @property
    def peak_per_s(self) -> float:
        """The most tokens in any one of the run's seconds."""
        seconds = np.maximum(self.t_ns, 0) // 1_000_000_000
        return float(np.bincount(seconds, weights=self.tokens).max())

    def tokens_between(self, start_s: float, end_s: float) -> float:
        """Return the tokens whose stamps lie in [start, end)."""
        inside = (self.t_ns >= 1e9 * start_s) & (self.t_ns < 1e9 * end_s)
        return float(self.tokens[inside].sum(dtype=np.float64))


def find_reads(run: Path, rows: Rows, succeeded: Rows) -> tuple[TokenReads | None, str]:
    """Return a run's reads, or None and why there are none.

    The part file of a killed run is read as well. Raises RecordsError: damaged, another run's.
    """
    arrays = read_stamps(run, rows)
    if arrays is None:
        return None, f"no tokens/{run.stem}.npz next to the rows"
    return reads_of(arrays, succeeded), ""


def reads_of(arrays: Arrays, succeeded: Rows) -> TokenReads | None:
    """Return the successes' reads; None where no read brought a token."""
    first, index = arrays["first_read"], arrays["request_index"]
    counts = np.diff(first)
    per_event = np.repeat(_tokens_per_event(succeeded, index), counts)
    kept = per_event > 0  # those of successes
    if not kept.any():
        return None
    exact = arrays["tokens"][kept].astype(np.float32)
    tokens = np.where(exact > 0, exact, arrays["events"][kept] * per_event[kept])
    firsts = first[:-1][counts > 0]
    begins = np.zeros(kept.size, dtype=bool)
    begins[firsts] = True
    t_ns = arrays["t_ns"][kept]
    wait_ms = np.diff(t_ns, prepend=t_ns[0]) / 1e6
    wait_ms[begins[kept]] = np.nan
    requests = index[counts > 0][kept[firsts]]
    return TokenReads(t_ns, tokens, wait_ms, bool((exact > 0).all()), requests)


def _tokens_per_event(succeeded: Rows, index: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return tokens per token event of each request; 0 for one that didn't succeed."""
    found = np.zeros(int(index.max(initial=-1)) + 1, dtype=np.float32)
    known = (succeeded["token_events"] > 0) & (succeeded["request_index"] < found.size)
    tokens = np.nan_to_num(succeeded["completion_tokens"][known]).astype(np.float32)
    events = succeeded["token_events"][known].astype(np.float32)
    found[succeeded["request_index"][known]] = tokens / events
    return found[index]
