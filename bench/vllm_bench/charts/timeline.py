"""A run on one clock: its requests, its server and its GPUs, as panels to draw over each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..figures.absent import why_no_rows
from ..figures.facts import Facts
from ..figures.metrics import FROM_SCHEDULE, TITLES, headline_metric, why_absent
from ..figures.statistics import Values
from ..figures.window import Window
from ..records.samples import ALL
from .gpu_tracks import gpu_panels
from .thin import DOTS_A_COLUMN, PICTURE, Room, dot_places
from .tracks import Dots, Failure, Panel, Span, Track, bin_width_s, rate, sampled, stepped

if TYPE_CHECKING:
    import pandas as pd

GPU_WORDS = {"utilization": "utilisation", "power": "power", "temperature": "temperature"}
MOST_TOLD = 200  # failures whose words are kept
MOST_ASIDE = 0.25  # of the run's length: samples further from it than that lie off the picture


@dataclass(frozen=True, eq=False)
class Timeline:
    """Panels over one axis of seconds, and what isn't there, with the reason."""

    span: Span  # of the run
    shown: Span  # with the samples before and after it
    window: Window | None
    panels: tuple[Panel, ...]
    absent: dict[str, str]
    thinned: str  # what was left out because there is no room for it

    @property
    def note(self) -> str:
        """What isn't shown, and why."""
        absent = ", ".join(f"{what} ({why})" for what, why in self.absent.items())
        parts = [f"Not shown: {absent}" if absent else "", self.thinned]
        return ". ".join(part for part in parts if part)


def timeline(facts: Facts, room: Room = PICTURE) -> Timeline | None:
    """Return a run's timeline; None where no request took any time."""
    end_s = float(facts.frame["t_end_s"].max()) if facts.rows else 0.0
    if end_s <= 0:
        return None
    server_rows = facts.server_rows
    panels = [
        *_request_panels(facts, end_s, room),
        *_kv(server_rows, room.line),
        *gpu_panels(facts, room.line),
    ]
    times = [
        rows["t_s"] for rows in (server_rows, facts.gpu_rows) if rows is not None and len(rows)
    ]
    margin = MOST_ASIDE * end_s
    return Timeline(
        span=(0.0, end_s),
        shown=(
            max(min([0.0, *(float(t.min()) for t in times)]), -margin),
            min(max([end_s, *(float(t.max()) for t in times)]), end_s + margin),
        ),
        window=facts.window,
        panels=tuple(panels),
        absent=_absent(facts, {p.key for p in panels}),
        thinned=_thinned(panels),
    )


def _request_panels(facts: Facts, end_s: float, room: Room) -> Iterator[Panel]:
    bins = f"{bin_width_s(end_s):g} s bins"
    due, ended = (facts.frame[c].to_numpy(dtype="float64") for c in ("t_scheduled_s", "t_end_s"))
    arrivals = rate(f"arrivals\n({bins})", due, None, end_s)
    yield Panel("arrivals", "requests/s", (arrivals, rate("ended", ended, None, end_s)))
    flight = tuple(_in_flight(facts, room.line))
    if flight:
        yield Panel("in_flight", "requests", flight)
    if facts.reads is not None:
        stamps = facts.reads.t_ns / 1e9
        tokens = rate(f"output tokens\n({bins})", stamps, facts.reads.tokens, end_s)
        yield Panel("tokens", "tokens/s", (tokens,))
    metric = headline_metric("ttft_ms" if facts.streaming else "latency_ms", facts.load)
    words = f"{TITLES[metric]} (ms)".replace(" schedule", "\nschedule")
    yield Panel("times", words, dots=_dots(facts, metric, room.dots))


def _in_flight(facts: Facts, most: int) -> Iterator[Track]:
    flight = facts.flight
    if flight is not None:
        levels = flight.levels.astype(np.float64)
        yield stepped("in flight (client)", flight.times_s, levels, most)
    if facts.server_rows is not None:
        together = facts.server_rows[facts.server_rows["engine"] == ALL]
        for column in ("running", "waiting"):
            found = sampled(f"{column} (server)", together, column, most=most)
            if found:
                yield found


def _dots(facts: Facts, metric: str, most: int) -> Dots:
    """Return a dot a success: where its time counts from, be it the send or the schedule."""
    begin = "t_scheduled_s" if metric in FROM_SCHEDULE.values() else "t_sent_s"
    taken, begun = facts.times(metric), facts.frame[begin]
    known = ~facts.failed & taken.notna().to_numpy() & begun.notna().to_numpy()
    times = begun[known].to_numpy(dtype="float64")
    values = taken[known].to_numpy(dtype="float64")
    kept = dot_places(times, values, most)
    return Dots(
        metric=metric,
        times=times[kept],
        values=values[kept],
        requests=facts.frame.loc[known, "request_index"].to_numpy(dtype="int64")[kept],
        of=times.size,
        failures=_failures(facts),
        first_failures=_first_failures(facts),
    )


def _failures(facts: Facts) -> dict[str, Values]:
    """Return when the failures of each kind were sent, or meant to be, the commonest first."""
    rows = facts.failures
    kinds = rows["error_kind"].fillna("unknown")
    times = _begun(rows)
    return {
        str(kind): times[kinds == kind].to_numpy(dtype="float64")
        for kind in kinds.value_counts().index
    }


def _first_failures(facts: Facts) -> tuple[Failure, ...]:
    rows = facts.failures.sort_values("t_end_s", kind="stable").head(MOST_TOLD)
    kinds, words = rows["error_kind"].fillna("unknown"), rows["error"].fillna("")
    cells = zip(_begun(rows), rows["t_end_s"], rows["request_index"], kinds, words, strict=True)
    return tuple(Failure(float(b), float(e), int(i), str(k), str(w)) for b, e, i, k, w in cells)


def _begun(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["t_sent_s"].fillna(rows["t_scheduled_s"])


def _kv(server_rows: pd.DataFrame | None, most: int) -> Iterator[Panel]:
    """Return the use of the KV cache: a line an engine."""
    if server_rows is None:
        return
    apart = server_rows[server_rows["engine"] != ALL]
    engines = sorted(apart["engine"].dropna().unique())
    rows = {"KV cache": server_rows[server_rows["engine"] == ALL]}
    if len(engines) > 1:
        rows = {f"engine {name}": apart[apart["engine"] == name] for name in engines}
    found = (sampled(name, of, "kv_cache_usage", 100, most) for name, of in rows.items())
    tracks = tuple(track for track in found if track)
    if tracks:
        yield Panel("kv", "KV cache\nin use (%)", tracks, most=100)


def _absent(facts: Facts, there: set[str]) -> dict[str, str]:
    """Return what the timeline lacks, each with the reason."""
    found: dict[str, str] = {}
    if "tokens" not in there:
        found["tokens/s"] = why_absent(facts, "itl_ms")
    if facts.server_rows is None:
        found["the server"] = why_no_rows(facts.info, "server_metrics", "its metrics")
    elif "kv" not in there:
        found["KV cache"] = "the server doesn't say"
    missing = [name for key, name in GPU_WORDS.items() if key not in there]
    if facts.gpu_rows is None:
        found["GPUs"] = why_no_rows(facts.info, "gpu", "they")
    elif missing:
        found[f"GPU {', '.join(missing)}"] = "no sensor gave a value"
    return found


def _thinned(panels: list[Panel]) -> str:
    """Return what was left out because a picture has no room for it."""
    parts = []
    for panel in panels:
        dots = panel.dots
        if dots and dots.of > dots.times.size:
            parts.append(
                f"{dots.times.size:,} of {dots.of:,} dots are drawn, since all would be ink: of "
                f"each column the lowest, the highest, and {DOTS_A_COLUMN - 2} evenly between"
            )
    if any(track.thinned for panel in panels for track in panel.tracks):
        parts.append("Lines run through the lowest and the highest point of each column")
    return ". ".join(parts)
