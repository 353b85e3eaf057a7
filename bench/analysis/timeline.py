"""A run on one clock: its requests, its server and its GPUs, as panels to draw over each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .extremes import DOTS_A_COLUMN, dot_places
from .facts import Facts
from .gpu_tracks import gpu_panels
from .metrics import why_absent
from .server_rows import ALL
from .statistics import Values
from .tracks import Dots, Panel, Span, Track, bin_width_s, rate, sampled, stepped
from .window import Window

if TYPE_CHECKING:
    import pandas as pd

MOST_ASIDE = 0.25  # of the run's length: samples further from it than that lie off the picture


@dataclass(frozen=True, eq=False)
class Timeline:
    """Panels over one axis of seconds, and what isn't there, with the reason."""

    span: Span  # of the run
    shown: Span  # with the samples before and after it
    window: Window | None
    panels: tuple[Panel, ...]
    absent: dict[str, str]
    note: str  # what was left out because there is no room for it


def timeline(facts: Facts, server_rows: pd.DataFrame | None) -> Timeline | None:
    """Return a run's timeline; None where no request took any time."""
    if facts.flight is None:
        return None
    end_s = float(facts.frame["t_end_s"].max())
    panels = [*_request_panels(facts, server_rows, end_s), *_kv(server_rows)]
    panels += gpu_panels(facts)
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
        absent=_absent(facts, server_rows, {p.key for p in panels}),
        note=_thinned(panels),
    )


def _request_panels(
    facts: Facts, server_rows: pd.DataFrame | None, end_s: float
) -> Iterator[Panel]:
    bins = f"{bin_width_s(end_s):g} s bins"
    arrivals = facts.frame["t_scheduled_s"].to_numpy(dtype="float64")
    arrived = rate(f"arrivals\n({bins})", arrivals, None, end_s)
    yield Panel("arrivals", "requests/s", (arrived,))
    yield Panel("in_flight", "requests", tuple(_in_flight(facts, server_rows)))
    if facts.reads is not None:
        stamps = facts.reads.t_ns / 1e9
        tokens = rate(f"output tokens\n({bins})", stamps, facts.reads.tokens, end_s)
        yield Panel("tokens", "tokens/s", (tokens,))
    metric, words = ("ttft_ms", "TTFT (ms)") if facts.streaming else ("latency_ms", "latency (ms)")
    yield Panel("times", words, dots=_dots(facts, metric))


def _in_flight(facts: Facts, server_rows: pd.DataFrame | None) -> Iterator[Track]:
    flight = facts.flight
    assert flight is not None
    yield stepped("in flight (client)", flight.times_s, flight.levels.astype(np.float64))
    if server_rows is not None:
        together = server_rows[server_rows["engine"] == ALL]
        for column in ("running", "waiting"):
            found = sampled(f"{column} (server)", together, column)
            if found:
                yield found


def _dots(facts: Facts, metric: str) -> Dots:
    rows = facts.succeeded[facts.succeeded[metric].notna() & facts.succeeded["t_sent_s"].notna()]
    times = rows["t_sent_s"].to_numpy(dtype="float64")
    values = rows[metric].to_numpy(dtype="float64")
    kept = dot_places(times, values) if times.size else np.arange(0)
    return Dots(times[kept], values[kept], times.size, _failures(facts))


def _failures(facts: Facts) -> dict[str, Values]:
    """Return when the failures of each kind were sent, or meant to be, the commonest first."""
    rows = facts.failures
    kinds = rows["error_kind"].fillna("unknown")
    times = rows["t_sent_s"].fillna(rows["t_scheduled_s"])
    return {
        str(kind): times[kinds == kind].to_numpy(dtype="float64")
        for kind in kinds.value_counts().index
    }


def _kv(server_rows: pd.DataFrame | None) -> Iterator[Panel]:
    """Return the use of the KV cache: a line an engine."""
    if server_rows is None:
        return
    apart = server_rows[server_rows["engine"] != ALL]
    engines = sorted(apart["engine"].dropna().unique())
    rows = {"KV cache": server_rows[server_rows["engine"] == ALL]}
    if len(engines) > 1:
        rows = {f"engine {name}": apart[apart["engine"] == name] for name in engines}
    found = (sampled(name, of, "kv_cache_usage", 100) for name, of in rows.items())
    tracks = tuple(track for track in found if track)
    if tracks:
        yield Panel("kv", "KV cache\nin use (%)", tracks, most=100)


def _absent(facts: Facts, server_rows: pd.DataFrame | None, there: set[str]) -> dict[str, str]:
    """Return what the timeline lacks, each with the reason."""
    found = {}
    if "tokens" not in there:
        found["tokens/s"] = why_absent(facts, "itl_ms")
    if server_rows is None:
        found["the server's own figures"] = _problem(facts, "server_metrics", "not sampled")
    elif "kv" not in there:
        found["KV cache"] = "the server doesn't say"
    missing = [name for key, name in GPU_WORDS.items() if key not in there]
    if facts.gpu_rows is None:
        found["GPUs"] = _problem(facts, "gpu", "not sampled (--telemetry)")
    elif missing:
        found[f"GPU {', '.join(missing)}"] = "no sensor gave a value"
    return found


GPU_WORDS = {"utilization": "utilisation", "power": "power", "temperature": "temperature"}


def _problem(facts: Facts, key: str, otherwise: str) -> str:
    """Return the first thing that the run's JSON says went wrong with a sampler."""
    noted: Any = facts.info.observed.get(key) if facts.info else None
    problems = noted.get("problems") if isinstance(noted, dict) else None
    if isinstance(problems, list) and problems and isinstance(problems[0], dict):
        return str(problems[0].get("text", otherwise))
    return otherwise


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
