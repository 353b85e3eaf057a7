"""The steady window: the part of a run in which the load was held, without start-up and drain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.row import Rows
from ..stats.batches import Values


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds from the run's start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def holds(self, times_s: Values) -> NDArray[np.bool_]:
        """Return which of these moments are inside; the end is excluded."""
        return (times_s >= self.start_s) & (times_s < self.end_s)

    def shares(self, start_s: Values, end_s: Values) -> Values:
        """Return which share of each time from start to end lies inside, from 0 to 1."""
        inside = np.minimum(end_s, self.end_s) - np.maximum(start_s, self.start_s)
        length = end_s - start_s
        instant = length <= 0
        shares = np.clip(inside, 0, None) / np.where(instant, 1, length)
        return np.where(instant, self.holds(end_s), shares)


def closed_window(frame: Rows, streams: float) -> Window | None:
    """Return the window in which a closed loop held its streams; None where it never did.

    It begins when every stream has ended its first request: until then the load is its own start.
    It ends when the first stream finds no more work, or with the last send of all, where each has a
    session whose next turn waits.
    """
    rows, begins = _by_stream(frame)
    end_s = rows["t_end_s"]
    if streams <= 0 or begins.size < streams:
        return None
    lasts = np.append(begins[1:], len(rows)) - 1
    ends_s = np.maximum.reduceat(end_s, begins)
    ends_s = np.where(waits_on(rows)[lasts], np.maximum(ends_s, last_send_s(rows)), ends_s)
    return _window(float(end_s[begins].max()), float(ends_s.min()))


def _streams_begun_s(frame: Rows, streams: float) -> float:
    """Return when a closed loop's last stream had ended its first request; 0: not all began."""
    rows, begins = _by_stream(frame)
    all_begun = 0 < streams <= begins.size
    return float(rows["t_end_s"][begins].max()) if all_begun else 0.0


def _by_stream(frame: Rows) -> tuple[Rows, NDArray[np.intp]]:
    """Return rows stream by stream, each in its order, and where each stream begins."""
    rows = frame.of(np.lexsort((frame["t_scheduled_s"], frame["stream_index"])))
    return rows, np.flatnonzero(np.diff(rows["stream_index"], prepend=-1))


def last_send_s(rows: Rows) -> float:
    """Return when the last request went; 0: none did."""
    return float(np.nan_to_num(rows["t_sent_s"]).max(initial=0.0))


def waits_on(rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are of a session that goes on: its last turn wasn't sent, and none failed.

    If such a row is its stream's last, the stream was held until the run ended.
    """
    if "session_turns" not in rows.columns or not rows.has("session_turns").any():
        return np.zeros(len(rows), dtype=bool)
    found = rows.has("session_turns")
    names = play_names(rows)
    over = (rows["turn"] == rows["session_turns"]) | rows.has("error_kind")
    ended = {name for name, done in zip(names, over, strict=True) if done}
    found &= np.array([name not in ended for name in names], dtype=bool)
    return found


def play_names(rows: Rows) -> list[tuple[str | None, str | None]]:
    """Return each row's play of a session, with its class: two may replay the same sessions."""
    plays = rows["conversation_id"].tolist()
    classes = rows["class"].tolist() if "class" in rows.columns else [None] * len(plays)
    return list(zip(classes, plays, strict=True))


def open_window(
    arrivals_s: Values,
    ramp_s: float,
    latency_p95_ms: float | None,
    beside: Iterable[tuple[Rows, float]] = (),
) -> Window | None:
    """Return the window in which an open loop's requests came at its rate; None where none did.

    It begins a long latency (p95) after the ramp, since until then fewer replies end than requests
    come, and not before the streams `beside` it (rows, and how many) were all busy. It ends with
    the last measured arrival: later requests aren't measured.
    """
    if arrivals_s.size == 0 or latency_p95_ms is None:
        return None
    begun_s = (_streams_begun_s(rows, streams) for rows, streams in beside)
    return _window(max(ramp_s + latency_p95_ms / 1000, *begun_s, 0.0), float(arrivals_s.max()))


def _window(start_s: float, end_s: float) -> Window | None:
    return Window(start_s, end_s) if end_s > start_s else None
