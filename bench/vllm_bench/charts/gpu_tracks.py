"""GPU samples as panels of a timeline: a line a GPU, gaps, and where clocks were held down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..figures.facts import Facts
from ..records.samples import slowed_by
from .tracks import Held, Panel, Track, sampled, silence_s, stretches

if TYPE_CHECKING:
    import pandas as pd

PANELS = (
    ("utilization", "GPU\nbusy (%)", "utilization_percent", 100.0),
    ("power", "power (W)", "power_w", None),
    ("temperature", "temp. (°C)", "temperature_c", None),
)


def gpu_panels(facts: Facts, most: int) -> list[Panel]:
    """Return the panels that a run's GPU samples allow."""
    rows = facts.gpu_rows
    if rows is None or rows.empty:
        return []
    held = held_down(rows)
    found = []
    for key, label, column, top in PANELS:
        tracks = tuple(_tracks(rows, column, most))
        if tracks:
            found.append(Panel(key, label, tracks, held=held, most=top))
    return found


def _tracks(rows: pd.DataFrame, column: str, most: int) -> Iterator[Track]:
    last_s = float(rows["t_s"].max())
    for place, (index, of_one) in enumerate(rows.groupby("gpu_index")):
        track = sampled(f"GPU {index}", of_one, column, most=most)
        if track is not None:
            silent_s = last_s - float(track.times[-1])
            lost = silent_s > silence_s(of_one["t_s"].to_numpy(dtype="float64"))
            yield dataclasses.replace(track, lost=lost, place=place)


def held_down(rows: pd.DataFrame) -> tuple[Held, ...]:
    """Return of each GPU whose clocks were held down when that was."""
    found = []
    for index, of_one in rows.groupby("gpu_index"):
        names = [slowed_by(reasons) for reasons in of_one["throttle_reasons"]]
        held = np.array([bool(found) for found in names])
        if held.any():
            spans = stretches(of_one["t_s"].to_numpy(dtype="float64"), held)
            why = ", ".join(sorted(set().union(*names)))
            found.append(Held(f"GPU {index}", why, tuple(spans)))
    return tuple(found)
