"""A run by its server's own account, beside what the client saw of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..figures.absent import Figure, Why, both, doc, ratio, split, why_no_rows
from ..figures.facts import Facts, Stretch, stretch_of
from ..figures.statistics import Values
from ..records.samples import ALL
from .ledger import PREEMPTIONS, cache_hit_rate, counter_deltas
from .over_time import Samples

if TYPE_CHECKING:
    import pandas as pd

MIN_SAMPLES = 2  # a mean over time, and the means between samples, take two


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """Figures of the steady window, or of the whole run where there is none.

    `absent` says of each that is None why it is.
    """

    samples: int = doc("readings of the server's /metrics in the steady window (else the run)")
    ttft_mean_ms: float | None = doc(
        "mean TTFT by the server's clock, its queue included, of first tokens between the readings"
    )
    ttft_count: int | None = doc("first tokens in that mean")
    client_ttft_mean_ms: float | None = doc("the client's mean TTFT of the same time")
    client_ttft_count: int | None = doc("first tokens in that mean")
    ttft_outside_ms: float | None = doc(
        "client's mean TTFT less the server's: network, HTTP and client"
    )
    queue_mean_ms: float | None = doc(
        "mean time in the server's queue, of requests that ended between the readings"
    )
    queue_share_of_ttft: float | None = doc("that over the server's mean TTFT")
    prefill_mean_ms: float | None = doc("mean prefill time, of requests that ended likewise")
    decode_mean_ms: float | None = doc("mean decode time, of requests that ended likewise")
    kv_cache_mean: float | None = doc("share of KV blocks in use, 0 to 1, mean over time")
    kv_cache_peak: float | None = doc("the largest reading of that")
    running_mean: float | None = doc("requests in the server's batch, mean over time")
    running_peak: float | None = doc("the largest reading of that")
    waiting_mean: float | None = doc("requests in the server's queue, mean over time")
    waiting_peak: float | None = doc("the largest reading of that")
    preemptions: int | None = doc("requests preempted for want of KV cache, over the whole run")
    prefix_cache_hit_rate: float | None = doc(
        "share of prompt tokens found in the prefix cache, 0 to 1, over the whole run"
    )
    absent: Mapping[str, str]

    @property
    def sampled(self) -> bool:
        """Whether there is any figure from the readings."""
        return any(getattr(self, name) is not None for name in FROM_ROWS)


GAUGES = {"kv_cache_usage": "kv_cache", "running": "running", "waiting": "waiting"}
SPENT = ("ttft", "queue", "prefill", "decode")
FROM_ROWS = (
    *("ttft_mean_ms", "ttft_count", "client_ttft_mean_ms", "client_ttft_count"),
    *("ttft_outside_ms", "queue_mean_ms", "queue_share_of_ttft"),
    *("prefill_mean_ms", "decode_mean_ms"),
    *(f"{name}_{part}" for name in GAUGES.values() for part in ("mean", "peak")),
)


def server_side(facts: Facts) -> ServerSide:
    """Return what the server's metrics say of a run."""
    found = _rows_of(facts)
    samples = 0 if isinstance(found, Why) else len(found)
    if isinstance(found, Why):
        from_rows: dict[str, Figure] = dict.fromkeys(FROM_ROWS, found)
    else:
        from_rows = {**_times(found, facts), **_gauges(found)}
    figures = split({**from_rows, **_from_counters(facts)})
    return ServerSide(samples=samples, **figures.values, absent=figures.absent)


def _rows_of(facts: Facts) -> pd.DataFrame | Why:
    """Return the rows of all engines together in the stretch, at least two, or why not."""
    rows = facts.server_rows
    if rows is None:
        return why_no_rows(facts.info, "server_metrics", "the server's metrics")
    stretch = stretch_of(facts)
    if stretch is None:
        return Why("no request was sent")
    inside: pd.DataFrame = rows[(rows["engine"] == ALL) & _within(rows["t_s"], stretch)]
    if len(inside) < MIN_SAMPLES:
        return Why(
            f"{len(inside)} of the server's metrics' readings "
            f"{'lies' if len(inside) == 1 else 'lie'} in the {stretch.words}: "
            f"{MIN_SAMPLES} are needed"
        )
    return inside


def _within(t_s: pd.Series[float], stretch: Stretch) -> pd.Series[bool]:
    return t_s.between(stretch.start_s, stretch.end_s)


def _times(rows: pd.DataFrame, facts: Facts) -> dict[str, Figure]:
    """Return the means of times between the first and the last of the rows."""
    spent = {name: _spent(rows.iloc[1:], name) for name in SPENT}  # the first's lie before it
    ttft, queue = spent["ttft"], spent["queue"]
    client_ms = _client_ttft_ms(facts, float(rows["t_s"].iloc[0]), float(rows["t_s"].iloc[-1]))
    client: Figure = Why(
        "no first token came between the readings"
        if facts.streaming
        else "stream: false, so a reply is one piece"
    )
    if facts.window is None and facts.info and facts.info.unmeasured.get("tail"):
        client = Why("the server's mean holds requests of the tail, which have no rows")
    elif client_ms.size:
        client = float(client_ms.mean())
    return {
        **{f"{name}_mean_ms": mean for name, mean in spent.items()},
        "ttft_count": ttft if isinstance(ttft, Why) else int(rows["ttft_count"].iloc[1:].sum()),
        "client_ttft_mean_ms": client,
        "client_ttft_count": client if isinstance(client, Why) else client_ms.size,
        "ttft_outside_ms": both(client, ttft, lambda whole, inner: whole - inner),
        "queue_share_of_ttft": both(queue, ttft, _share),
    }


def _share(queue_ms: float, ttft_ms: float) -> Figure:
    """Return the queue's part of TTFT: of those that ended, and of those that began meanwhile."""
    if queue_ms > ttft_ms:
        return Why(
            "requests that ended had queued longer than those that began took to their first "
            "token: the queue was shrinking, and the two are not the same requests"
        )
    return ratio(queue_ms, ttft_ms)


def _spent(rows: pd.DataFrame, name: str) -> Figure:
    """Return the mean of a time over all that ended in the rows' intervals."""
    count, mean_ms = rows[f"{name}_count"].to_numpy(), rows[f"{name}_mean_ms"].to_numpy()
    if np.isnan(count).all():
        return Why("the server doesn't give it")
    ended = (count > 0) & ~np.isnan(mean_ms)
    if not ended.any():
        what = "first token came" if name == "ttft" else "request ended"
        return Why(f"no {what} between the readings")
    return float((mean_ms[ended] * count[ended]).sum() / count[ended].sum())


def _client_ttft_ms(facts: Facts, after_s: float, until_s: float) -> Values:
    """Return TTFTs of first tokens in a time: of failures, too, since the server counts them."""
    rows = facts.frame[facts.frame["ttft_ms"].notna() & facts.frame["t_sent_s"].notna()]
    ttft_ms: Values = rows["ttft_ms"].to_numpy(dtype="float64")
    came_s = rows["t_sent_s"].to_numpy(dtype="float64") + ttft_ms / 1000
    between: Values = ttft_ms[(came_s > after_s) & (came_s <= until_s)]
    return between


def _gauges(rows: pd.DataFrame) -> dict[str, Figure]:
    """Return mean over time and peak of what was in use at each reading."""
    figures: dict[str, Figure] = {}
    for column, name in GAUGES.items():
        samples = Samples.of(rows["t_s"].to_numpy(), rows[column].to_numpy())
        why = Why(
            "the readings lie too far apart"
            if samples.values.size >= MIN_SAMPLES
            else "the server doesn't give it"
        )
        mean, peak = samples.mean, samples.peak
        figures[f"{name}_mean"] = why if mean is None else mean
        figures[f"{name}_peak"] = why if peak is None else peak
    return figures


def _from_counters(facts: Facts) -> dict[str, Figure]:
    deltas, hits = counter_deltas(facts), cache_hit_rate(facts)
    if deltas is None:
        preempted: Figure = Why("the server's counters could not be read")
    else:
        counted = deltas.get(PREEMPTIONS)
        preempted = Why("the server doesn't count them") if counted is None else round(counted)
    unknown = Why("neither the server's counters nor its replies say")
    return {"preemptions": preempted, "prefix_cache_hit_rate": unknown if hits is None else hits}
