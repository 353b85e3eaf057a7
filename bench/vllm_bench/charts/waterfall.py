"""Single requests over time: what each waited for, and when no tokens came."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..figures.facts import Facts
from ..records.row import Rows
from ..stats.batches import Values
from ..stats.distribution import ordered
from .chart import Axis, Chart, Line, Panel, Role

MOST_ROWS = 200
GAP_FACTOR = 5.0  # waits for a token of more than this many median ITLs are shown
# In a long run the bars of all requests would be too short to see. The median bar is at least this
# part of the time from the first request shown to the last; later requests are left out.
LEAST_BAR = 0.03
LEAST_SEEN = 0.0005  # of the chart's width: half a dot


def waterfall(facts: Facts) -> Chart | None:
    """Return up to `MOST_ROWS` requests in the order of their sends; None where there is none."""
    rows = facts.counted_rows
    rows = rows.of(np.lexsort((rows["request_index"], rows["t_scheduled_s"])))
    where = "run" if facts.window is None else "steady window"
    if not len(rows):
        return None
    rows, words = _chosen(rows, where)
    count = len(rows)
    requests = Axis(words="requests, by schedule", span=(count - 0.3, -0.7))  # the first on top
    return Chart(
        title="Requests",
        doc="what each request waited for, and when no tokens came",
        note=f"Rows: {words}. A single request's queue and prefill can't be distinguished",
        x=Axis(words="seconds from the run's start", unit="s", span=_shown(rows)),
        panels=[Panel(y=requests, lines=[*_bars(facts, rows), *_crosses(rows)])],
        wide=True,
        panel_in=min(7.5, 2.2 + 0.035 * count + 0.06 * min(count, 60)),
    )


def _chosen(rows: Rows, where: str) -> tuple[Rows, str]:
    """Return the rows that are drawn, and a description of which they are."""
    scheduled, ended = rows["t_scheduled_s"], rows["t_end_s"]
    count = scheduled.size
    usual = float(np.median(ended - scheduled))
    near = int((LEAST_BAR * (scheduled - scheduled[0]) <= usual).sum()) if usual else count
    if near < count:
        kept = min(near, MOST_ROWS)
        return rows.of(slice(kept)), f"the first {kept:,} of {count:,} requests of the {where}"
    if count <= MOST_ROWS:
        return rows, f"all {count:,} request{'s' * (count != 1)} of the {where}"
    evenly = np.linspace(0, count - 1, MOST_ROWS).round().astype(np.intp)
    words = f"{MOST_ROWS} of {count:,} requests of the {where}, evenly chosen"
    return rows.of(evenly), words


def _failed(rows: Rows) -> NDArray[np.bool_]:
    return rows.has("error_kind") | rows.has("error")


def _shown(rows: Rows) -> tuple[float, float]:
    """Return the x axis' span: from the first schedule to the last end, and a little more."""
    first, last = float(rows["t_scheduled_s"].min()), float(rows["t_end_s"].max())
    room = 0.01 * (last - first) or 0.01
    return first - room, last + room


def _bars(facts: Facts, rows: Rows) -> Iterator[Line]:
    """Return each kind of bar that any request has."""
    due, end, ok = rows["t_scheduled_s"], rows["t_end_s"], ~_failed(rows)
    sent = rows["t_sent_s"]
    first = sent + rows["ttft_ms"] / 1000
    one_piece = np.isnan(first).all()
    queue = "until first token (queue and prefill)"
    words = "until the reply, which came in one piece" if one_piece else queue
    sent, first = (np.where(np.isnan(at), end, at) for at in (sent, first))
    late = ok & (sent - due > LEAST_SEEN * (end.max() - due.min()))
    yield from _part("the client's own wait", "quiet", (due, sent), late, "hatched")
    yield from _part(words, "wait", (sent, first), ok)
    yield from _part("decode", "decode", (first, end), ok)
    yield from _pauses(facts, rows)
    yield from _part("failed", "error", (due, end), ~ok)


def _part(
    name: str,
    colour: str,
    spans: tuple[Values, Values],
    kept: NDArray[np.bool_],
    role: Role = "bars",
) -> Iterator[Line]:
    """Return the bars of one kind for the rows that are kept, where they took any time."""
    begin, end = spans
    rows = np.flatnonzero(kept & (end > begin))
    if rows.size:
        x, until, y = begin[rows], end[rows], rows.astype(np.float64)
        yield Line(name=name, x=x, until=until, y=y, colour=colour, role=role)


def _crosses(rows: Rows) -> Iterator[Line]:
    """Return a cross at each failure's end: a refused request has no bar to see."""
    failed = np.flatnonzero(_failed(rows))
    if failed.size:
        x, y = rows["t_end_s"][failed], failed.astype(np.float64)
        yield Line(name="failed", x=x, y=y, role="crosses", colour="error", legend=None)


def _pauses(facts: Facts, rows: Rows) -> Iterator[Line]:
    """Return the long waits between two tokens, where stamps were kept."""
    reads = facts.counted_reads
    if reads is None or reads.itl_ms.size == 0:
        return
    limit_ms = GAP_FACTOR * ordered(reads.itl_ms, reads.tokens_after_gap).percentile(50)
    long = np.flatnonzero(reads.wait_ms > limit_ms)  # NaN, a request's first, is not
    places = {int(index): place for place, index in enumerate(rows["request_index"])}
    place = np.array([places.get(int(index), -1) for index in reads.owner(long)], dtype=np.intp)
    long, place = long[place >= 0], place[place >= 0]
    if long.size and limit_ms:
        end, y = reads.t_ns[long] / 1e9, place.astype(np.float64)
        begin = end - reads.wait_ms[long] / 1000
        name = f"no token for over {limit_ms:.0f} ms (5 x ITL p50)"
        yield Line(name=name, x=begin, until=end, y=y, role="bars", colour="pause")
