"""Single requests over time: what each waited for, and when its tokens stood still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..figures.facts import Facts
from ..figures.statistics import Values, ordered
from .tracks import Span

MOST_ROWS = 200
GAP_FACTOR = 5.0  # a wait for a token that is so many times the median ITL is seen
# All rows of a long run would be slivers along a diagonal. The usual bar is at least this part of
# the time from the first request shown to the last, and later ones are left out.
LEAST_BAR = 0.03


@dataclass(frozen=True, eq=False)
class Waterfall:
    """Requests in the order of their sends; seconds from the run's start, NaN where it never was.

    `gaps` are (row, from, to): the waits between two tokens that stood out.
    """

    request_index: NDArray[np.int64]
    scheduled: Values
    sent: Values
    first_token: Values  # the end, where a reply came in one piece
    end: Values
    failed: NDArray[np.bool_]
    gaps: tuple[tuple[int, float, float], ...]
    gap_limit_ms: float | None  # None: no stamps were kept
    words: str  # which requests these are

    @property
    def shown(self) -> Span:
        """From the first schedule to the last end."""
        return float(self.scheduled.min()), float(self.end.max())


def waterfall(facts: Facts) -> Waterfall | None:
    """Return up to `MOST_ROWS` requests; None where there is none."""
    rows = facts.frame.sort_values(["t_scheduled_s", "request_index"], kind="stable")
    scheduled = rows["t_scheduled_s"].to_numpy(dtype="float64")
    where = "run"
    if facts.window is not None:
        inside = (scheduled >= facts.window.start_s) & (scheduled < facts.window.end_s)
        if inside.any():
            rows, where = rows[inside], "steady window"
    if rows.empty:
        return None
    places, words = _chosen(rows["t_scheduled_s"].to_numpy(), rows["t_end_s"].to_numpy(), where)
    rows = rows.iloc[places]
    sent = rows["t_sent_s"].to_numpy(dtype="float64", na_value=np.nan)
    first_ms = rows["ttft_ms"].to_numpy(dtype="float64", na_value=np.nan)
    index = rows["request_index"].to_numpy(dtype="int64")
    limit_ms = _gap_limit_ms(facts)
    return Waterfall(
        request_index=index,
        scheduled=rows["t_scheduled_s"].to_numpy(dtype="float64"),
        sent=sent,
        first_token=sent + first_ms / 1000,
        end=rows["t_end_s"].to_numpy(dtype="float64"),
        failed=(rows["error_kind"].notna() | rows["error"].notna()).to_numpy(dtype=bool),
        gaps=_gaps(facts, index, limit_ms) if limit_ms else (),
        gap_limit_ms=limit_ms,
        words=words,
    )


def _chosen(scheduled: Values, ended: Values, where: str) -> tuple[NDArray[np.intp], str]:
    """Return which rows are drawn, and that in words."""
    count = scheduled.size
    usual = float(np.median(ended - scheduled))
    near = int((LEAST_BAR * (scheduled - scheduled[0]) <= usual).sum()) if usual else count
    if near < count:
        rows = min(near, MOST_ROWS)
        return np.arange(rows), f"the first {rows:,} of {count:,} requests of the {where}"
    if count <= MOST_ROWS:
        return np.arange(count), f"all {count:,} request{'s' * (count != 1)} of the {where}"
    evenly = np.linspace(0, count - 1, MOST_ROWS).round().astype(np.intp)
    return evenly, f"{MOST_ROWS} of {count:,} requests of the {where}, evenly chosen"


def _gap_limit_ms(facts: Facts) -> float | None:
    reads = facts.reads
    if reads is None or reads.itl_ms.size == 0:
        return None
    return GAP_FACTOR * ordered(reads.itl_ms, reads.tokens_after_gap).percentile(50)


def _gaps(
    facts: Facts, index: NDArray[np.int64], limit_ms: float
) -> tuple[tuple[int, float, float], ...]:
    """Return the waits over the limit of the requests that are drawn."""
    reads = facts.reads
    assert reads is not None
    row_of = {int(request): row for row, request in enumerate(index)}
    long = np.flatnonzero(reads.wait_ms > limit_ms)  # NaN, a request's first, is not
    ends = reads.t_ns[long] / 1e9
    owners = reads.owner(long)
    return tuple(
        (row_of[int(owner)], float(end) - float(wait) / 1000, float(end))
        for owner, end, wait in zip(owners, ends, reads.wait_ms[long], strict=True)
        if int(owner) in row_of
    )
