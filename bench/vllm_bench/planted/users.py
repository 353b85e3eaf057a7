"""What the users of a server saw in the steady state, by the simulator's own record.

Nothing here comes from the client's rows. Steady is, by the server's stamps: a closed loop from the
p95 of latency after all streams were first served to the last moment that all were; an open loop
from the p95 of latency after its ramp to its last measured arrival. A user whose request failed, or
never reached the server, has waited for ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from ..stats.batches import Values

FULL = 0.95  # share of the streams: one may be between two requests
PERCENTILES = {"TTFT p50": 50, "TTFT p95": 95, "latency p50": 50, "TPOT p50": 50}


@dataclass(frozen=True, slots=True)
class Served:
    """A measured request as the server recorded it, in seconds of its clock."""

    received_s: float
    stamps_s: Values  # of each chunk
    tokens: Values  # in each chunk
    prompt_tokens: int
    ended: bool  # properly; else its user never got the answer

    @property
    def ttft_s(self) -> float:
        return float(self.stamps_s[0]) - self.received_s if self.ended else math.inf

    @property
    def latency_s(self) -> float:
        return float(self.stamps_s[-1]) - self.received_s if self.ended else math.inf

    @property
    def tpot_s(self) -> float:
        """Time per token after the first; without end where there is none."""
        more = int(self.tokens.sum()) - 1
        return (self.latency_s - self.ttft_s) / more if self.ended and more > 0 else math.inf


@dataclass(frozen=True, slots=True)
class LoadAsked:
    """What of a run's settings says when it is steady."""

    streams: int | None  # None: an open loop
    ramp_s: float
    requests: int  # measured


def read_served(paths: Sequence[Path], run_id: str, requests: int) -> list[Served]:
    """Return the measured requests of a run in truth files, in the order of their arrival."""
    lines = [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    found = [_served(line) for line in lines if _is_measured(line["request_id"], run_id, requests)]
    return sorted(found, key=lambda served: served.received_s)


def _is_measured(request_id: str, run_id: str, requests: int) -> bool:
    name, _, index = request_id.rpartition("-")
    return name == run_id and int(index) < requests


def _served(line: dict[str, object]) -> Served:
    stamps = np.array(line["t_sent_ns"], dtype=np.float64) / 1e9
    return Served(
        received_s=float(str(line["t_received_ns"])) / 1e9,
        stamps_s=stamps,
        tokens=np.array(line["tokens"], dtype=np.float64),
        prompt_tokens=int(str(line["prompt_tokens"])),
        ended=line["finish_reason"] is not None and stamps.size > 0,
    )


def true_figures(served: Sequence[Served], load: LoadAsked) -> dict[str, float | None]:
    """Return each figure of the users of a run: times in ms, tokens per second, tokens."""
    start_s, end_s = steady(served, load)
    users = [user for user in served if start_s <= user.received_s <= end_s]
    lost = [math.inf] * (load.requests - len(served))  # they never reached the server
    seen = {
        "TTFT": [user.ttft_s * 1e3 for user in users] + lost,
        "latency": [user.latency_s * 1e3 for user in users] + lost,
        "TPOT": [user.tpot_s * 1e3 for user in users] + lost,
    }
    figures = {
        name: percentile(seen[name.split()[0]], percent) for name, percent in PERCENTILES.items()
    }
    return {
        **figures,
        "tokens/s": _tokens_between(served, start_s, end_s) / (end_s - start_s),
        "prompt tokens p50": percentile([float(user.prompt_tokens) for user in users], 50),
    }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile of values that may be infinite; None of none."""
    if not values:
        return None
    place = (len(values) - 1) * percent / 100
    low, high = sorted(values)[math.floor(place)], sorted(values)[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def steady(served: Sequence[Served], load: LoadAsked) -> tuple[float, float]:
    """Return from when to when the load was steady; the whole run where it never was."""
    ended = [user for user in served if user.ended]
    first_s, last_s = served[0].received_s, served[-1].received_s
    whole = first_s, max([last_s, *(float(user.stamps_s[-1]) for user in ended)])
    settled_s = percentile([user.latency_s for user in ended], 95) or 0.0
    if load.streams is None:
        start_s, end_s = first_s + load.ramp_s + settled_s, last_s
    else:
        full = _full(served, math.ceil(FULL * load.streams))
        if full is None:
            return whole
        start_s, end_s = full[0] + settled_s, full[1]
    return (start_s, end_s) if end_s > start_s else whole


def _full(served: Sequence[Served], streams: int) -> tuple[float, float] | None:
    """Return the first and the last moment at which that many requests were in flight."""
    steps = [(user.received_s, 1) for user in served]
    steps += [(float(u.stamps_s[-1]) if u.stamps_s.size else u.received_s, -1) for u in served]
    steps.sort()
    in_flight = np.cumsum([step for _, step in steps])
    (full,) = np.nonzero(in_flight >= streams)
    if not full.size:
        return None
    return steps[full[0]][0], steps[min(full[-1] + 1, len(steps) - 1)][0]


def _tokens_between(served: Sequence[Served], start_s: float, end_s: float) -> float:
    return sum(
        float(user.tokens[(user.stamps_s >= start_s) & (user.stamps_s < end_s)].sum())
        for user in served
        if user.ended
    )
