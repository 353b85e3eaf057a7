"""GPU samples as panels of a timeline: a line a GPU, gaps, and where clocks were held down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .facts import Facts
from .gpu_rows import SLOWED_BY
from .tracks import Panel, Span, Track, sampled, silence_s, stretches

if TYPE_CHECKING:
    import pandas as pd

PANELS = (
    ("utilization", "GPU\nbusy (%)", "utilization_percent", 100.0),
    ("power", "power (W)", "power_w", None),
    ("temperature", "temper-\nature (°C)", "temperature_c", None),
)


def gpu_panels(facts: Facts) -> list[Panel]:
    """Return the panels that a run's GPU samples allow."""
    rows = facts.gpu_rows
    if rows is None or rows.empty:
        return []
    marked, words = throttled(rows)
    found = []
    for key, label, column, most in PANELS:
        tracks = tuple(_tracks(rows, column))
        if tracks:
            found.append(Panel(key, label, tracks, marked=marked, mark_words=words, most=most))
    return found


def _tracks(rows: pd.DataFrame, column: str) -> Iterator[Track]:
    last_s = float(rows["t_s"].max())
    for place, (index, of_one) in enumerate(rows.groupby("gpu_index")):
        track = sampled(f"GPU {index}", of_one, column)
        if track is not None:
            silent_s = last_s - float(track.times[-1])
            lost = silent_s > silence_s(of_one["t_s"].to_numpy(dtype="float64"))
            yield dataclasses.replace(track, lost=lost, place=place)


def throttled(rows: pd.DataFrame) -> tuple[tuple[Span, ...], str]:
    """Return the stretches in which a GPU's clocks were held down, and which and why in words."""
    spans: list[Span] = []
    words = []
    for index, of_one in rows.groupby("gpu_index"):
        reasons = of_one["throttle_reasons"].fillna("none").astype(str)
        names = [SLOWED_BY & set(text.split("|")) for text in reasons]
        held = np.array([bool(found) for found in names])
        if held.any():
            spans += stretches(of_one["t_s"].to_numpy(dtype="float64"), held)
            why = sorted(set().union(*names))
            words.append(f"GPU {index}: {', '.join(why)}")
    return tuple(_merged(spans)), "; ".join(words)


def _merged(spans: list[Span]) -> list[Span]:
    """Return stretches in order, those that touch as one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
