"""A run on one clock, for a picture: what the client did, what the server and its GPUs said.

All times are seconds from the run's start. Nothing is averaged: rates are counts over slices of
time, and where there are more points than a picture can show, the extremes of each slice stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .extremes import dot_places, line_places
from .facts import Facts
from .gpu_rows import slowed_by
from .metrics import TITLES, headline_metric
from .server_rows import ALL
from .statistics import Values
from .window import Window

if TYPE_CHECKING:
    import pandas as pd

SLICES = 240  # most slices of a rate: more can't be told apart on a screen
SLICE_LENGTHS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
MOST_FAILURES = 200
GAP_S = 3.0  # a line over a longer silence of a sampler would be made up
GAP_STEPS = 5  # ... or over one of so many of its usual intervals


@dataclass(frozen=True, slots=True)
class Track:
    """One quantity over time; `of` is how many points there were before thinning."""

    name: str
    times_s: Values
    values: Values
    of: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed: when, and why in the server's words."""

    at_s: float
    request_index: int
    kind: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What there is of a run's timeline; a part that nobody measured is None or empty."""

    window: Window | None
    slice_s: float
    arrivals: Track | None  # requests/s that were to go
    ended: Track | None  # requests/s, however they ended
    in_flight: Track | None  # by the client's count
    running: Track | None  # by the server's
    waiting: Track | None
    dots_metric: str  # TTFT; latency where replies came in one piece
    dots: Track | None  # that time of each success, at the moment that it counts from
    dots_requests: NDArray[np.int64]  # whose each is
    failures: tuple[Failure, ...]
    failed: int  # how many there are in all
    output_tokens: Track | None  # tokens/s of the successes
    kv_percent: Track | None
    gpu: dict[str, tuple[Track, ...]]  # sensor: a track a GPU
    throttled: tuple[Track, ...]  # utilisation of each GPU while its clocks were held down


def timeline(facts: Facts, server: pd.DataFrame | None, most: int) -> Timeline:
    """Return a run's timeline with at most about `most` points a track."""
    slice_s = _slice_length(facts)
    dots = _dots(facts)
    kept = dot_places(_floats(dots, "at_s"), _floats(dots, "ms"), 2 * most)
    one = None if server is None else server[server["engine"] == ALL]
    return Timeline(
        window=facts.window,
        slice_s=slice_s,
        arrivals=_rate("arrivals", _floats(facts.frame, "t_scheduled_s"), slice_s),
        ended=_rate("ended", _floats(facts.frame, "t_end_s"), slice_s),
        in_flight=_in_flight(facts, most),
        running=_sampled("running (server)", one, "running", most),
        waiting=_sampled("waiting (server)", one, "waiting", most),
        dots_metric=_dots_metric(facts),
        dots=_dot_track(facts, dots, kept),
        dots_requests=dots["request_index"].to_numpy(dtype="int64")[kept],
        failures=_failures(facts.failures),
        failed=len(facts.failures),
        output_tokens=_token_rate(facts, slice_s),
        kv_percent=_sampled("KV cache", one, "kv_cache_usage", most, scale=100),
        gpu=_gpu_tracks(facts.gpu_rows, most),
        throttled=_throttled(facts.gpu_rows, most),
    )


def _floats(rows: pd.DataFrame, column: str) -> Values:
    found: Values = rows[column].to_numpy(dtype="float64", na_value=np.nan)
    return found


def _slice_length(facts: Facts) -> float:
    end_s = float(facts.frame["t_end_s"].max()) if facts.rows else 1.0
    return next((s for s in SLICE_LENGTHS_S if end_s / s <= SLICES), end_s / SLICES)


def _rate(
    name: str, times_s: Values, slice_s: float, weights: NDArray[np.float32] | None = None
) -> Track | None:
    """Return events a second in slices from the run's start, each at its middle."""
    known = ~np.isnan(times_s)
    if not known.any():
        return None
    # What came before the start (a sampler's clock may differ by microseconds) counts as at it.
    places = (np.maximum(times_s[known], 0) // slice_s).astype(np.int64)
    counts = np.bincount(places, weights=None if weights is None else weights[known])
    middles = (np.arange(counts.size, dtype=np.float64) + 0.5) * np.float64(slice_s)
    return Track(name, middles, counts / slice_s, counts.size)


def _token_rate(facts: Facts, slice_s: float) -> Track | None:
    reads = facts.reads
    if reads is None:
        return None
    return _rate("output tokens", reads.t_ns / 1e9, slice_s, reads.tokens)


def _in_flight(facts: Facts, most: int) -> Track | None:
    flight = facts.flight
    if flight is None:
        return None
    levels = flight.levels.astype(np.float64)
    kept = line_places(flight.times_s, levels, most)
    return Track("in flight", flight.times_s[kept], levels[kept], levels.size)


def _sampled(
    name: str, rows: pd.DataFrame | None, column: str, most: int, scale: float = 1
) -> Track | None:
    """Return a sampler's readings; where it was silent for long, the line is broken."""
    if rows is None:
        return None
    known = rows[rows[column].notna()]
    if known.empty:
        return None
    times, values = _floats(known, "t_s"), scale * _floats(known, column)
    kept = line_places(times, values, most)
    steps = np.diff(times, prepend=times[0])
    stretch = np.cumsum(steps > max(GAP_S, GAP_STEPS * float(np.median(steps))))
    breaks = np.flatnonzero(np.diff(stretch[kept])) + 1
    return Track(
        name,
        np.insert(times[kept], breaks, times[kept][breaks]),
        np.insert(values[kept], breaks, np.nan),
        len(known),
    )


def _dots_metric(facts: Facts) -> str:
    return headline_metric("ttft_ms" if facts.streaming else "latency_ms", facts.load)


def _dots(facts: Facts) -> pd.DataFrame:
    """Return each success's time in ms and the moment that it counts from: at_s, ms."""
    rows = facts.succeeded
    since = "t_scheduled_s" if facts.load.is_open else "t_sent_s"
    times = facts.times(_dots_metric(facts))[~facts.failed]
    found = rows.assign(at_s=rows[since], ms=times).dropna(subset=["at_s", "ms"])
    ordered: pd.DataFrame = found.sort_values("at_s", kind="stable")
    return ordered


def _dot_track(facts: Facts, dots: pd.DataFrame, kept: NDArray[np.int64]) -> Track | None:
    if dots.empty:
        return None
    times, values = _floats(dots, "at_s"), _floats(dots, "ms")
    return Track(TITLES[_dots_metric(facts)], times[kept], values[kept], len(dots))


def _failures(rows: pd.DataFrame) -> tuple[Failure, ...]:
    """Return the first failures by the moment of their end."""
    first = rows.sort_values("t_end_s", kind="stable").head(MOST_FAILURES)
    kinds, words = (first[column].fillna("").astype(str) for column in ("error_kind", "error"))
    cells = zip(first["t_end_s"], first["request_index"], kinds, words, strict=True)
    return tuple(Failure(float(t), int(i), kind, said) for t, i, kind, said in cells)


def _gpu_tracks(rows: pd.DataFrame | None, most: int) -> dict[str, tuple[Track, ...]]:
    found = {}
    for sensor in ("utilization_percent", "power_w", "temperature_c"):
        tracks = [_sampled(name, one, sensor, most) for name, one in _by_gpu(rows)]
        known = tuple(track for track in tracks if track is not None)
        if known:
            found[sensor] = known
    return found


def _throttled(rows: pd.DataFrame | None, most: int) -> tuple[Track, ...]:
    found = []
    for name, one in _by_gpu(rows):
        held = one[one["throttle_reasons"].map(slowed_by).astype(bool)]
        track = _sampled(name, held, "utilization_percent", most)
        if track is not None:
            found.append(track)
    return tuple(found)


def _by_gpu(rows: pd.DataFrame | None) -> list[tuple[str, pd.DataFrame]]:
    if rows is None:
        return []
    return [(f"GPU {index}", one) for index, one in rows.groupby("gpu_index")]
