"""What the server's own metrics say about a run, compared with what the client saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..figures.absent import Figure, Why, both, group_of, ratio
from ..figures.facts import Facts
from ..records.beside.samples import ALL
from ..records.row import Rows, column_docs, doc
from ..stats.batches import Values
from .growth import WHY_APART
from .ledger import PREEMPTIONS, cache_hit_rate, counter_deltas, server_change
from .over_time import Samples, judged_rows

MIN_SAMPLES = 2  # a mean over time and a mean between samples need two


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """Figures of the steady window, or of the whole run where there is none.

    `absent` has the reason for each None.
    """

    samples: int = doc("readings of the server's /metrics in the steady window (else the run)")
    ttft_mean_ms: float | None = doc(
        "mean TTFT by the server's clock, its queue included, of first tokens between the readings"
    )
    ttft_count: int | None = doc("first tokens in that mean")
    client_ttft_mean_ms: float | None = doc("the client's mean TTFT of the same time")
    client_ttft_count: int | None = doc("first tokens in that mean")
    ttft_outside_ms: float | None = doc(
        "client's mean TTFT minus the server's: network, HTTP and client"
    )
    queue_mean_ms: float | None = doc(
        "mean time in the server's queue, of requests that ended between the readings"
    )
    queue_share_of_ttft: float | None = doc("server_queue_mean_ms / server_ttft_mean_ms")
    prefill_mean_ms: float | None = doc(
        "mean prefill time, of requests that ended between the readings"
    )
    decode_mean_ms: float | None = doc(
        "mean decode time, of requests that ended between the readings"
    )
    kv_cache_mean: float | None = doc("share of KV blocks in use, 0 to 1, mean over time")
    kv_cache_peak: float | None = doc("the largest reading of it")
    running_mean: float | None = doc("requests in the server's batch, mean over time")
    running_peak: float | None = doc("the largest reading of it")
    waiting_mean: float | None = doc("requests in the server's queue, mean over time")
    waiting_peak: float | None = doc("the largest reading of it")
    preemptions: int | None = doc(
        "requests preempted because the KV cache was full, over the whole run"
    )
    prefix_cache_hit_rate: float | None = doc(
        "share of prompt tokens found in the prefix cache, 0 to 1, over the whole run"
    )
    absent: Mapping[str, str]

    @property
    def sampled(self) -> bool:
        """Whether there is any figure from the readings."""
        return any(getattr(self, name) is not None for name in FROM_ROWS)


GAUGES = {"kv_cache_usage": "kv_cache", "running": "running", "waiting": "waiting"}
HISTOGRAMS = ("ttft", "queue", "prefill", "decode")
# The last two come from the counters before and after the run.
OTHERS = ("samples", "preemptions", "prefix_cache_hit_rate")
FROM_ROWS = tuple(name for name, _ in column_docs(ServerSide) if name not in OTHERS)


def server_side(facts: Facts) -> ServerSide:
    """Return the figures of a run from the server's metrics."""
    rows = _rows_of(facts)
    if isinstance(rows, Why):
        from_rows: dict[str, Figure] = dict.fromkeys(FROM_ROWS, rows)
    else:
        from_rows = {**_times(rows, facts), **_gauges(rows)}
    return group_of(
        ServerSide,
        {**from_rows, **_from_counters(facts)},
        samples=0 if isinstance(rows, Why) else len(rows),
    )


def _rows_of(facts: Facts) -> Rows | Why:
    """Return the rows of the judged time for all engines together, at least two, or why not."""
    rows = judged_rows(facts, facts.server_rows, "server_metrics", "the server's metrics")
    if isinstance(rows, Why):
        return rows
    together = rows.of(rows["engine"] == ALL)
    if len(together) < MIN_SAMPLES:
        lie = "lies" if len(together) == 1 else "lie"
        return Why(
            f"{len(together)} of the server's metrics' readings {lie} in the "
            f"{facts.judged_in_words}: {MIN_SAMPLES} are needed"
        )
    return together


def _times(rows: Rows, facts: Facts) -> dict[str, Figure]:
    """Return the means of times between the first and the last of the rows."""
    later = rows.of(slice(1, None))  # the first row counts what happened before it
    means = {name: _mean_ms(later, name) for name in HISTOGRAMS}
    ttft, queue = means["ttft"], means["queue"]
    client_ms = _client_ttft_ms(facts, rows["t_s"])
    client = client_ms if isinstance(client_ms, Why) else float(client_ms.mean())
    return {
        **{f"{name}_mean_ms": mean for name, mean in means.items()},
        "ttft_count": ttft if isinstance(ttft, Why) else int(np.nansum(later["ttft_count"])),
        "client_ttft_mean_ms": client,
        "client_ttft_count": client_ms if isinstance(client_ms, Why) else client_ms.size,
        "ttft_outside_ms": both(client, ttft, lambda whole, inner: whole - inner),
        "queue_share_of_ttft": both(queue, ttft, _queue_share),
    }


def _queue_share(queue_ms: float, ttft_ms: float) -> Figure:
    """Return the queue's share of TTFT. Queue times are of requests that ended, TTFTs of any."""
    if queue_ms > ttft_ms:
        return Why(
            "requests that ended had queued longer than those that began took to their first "
            "token: the queue was shrinking, and the two are not the same requests"
        )
    return ratio(queue_ms, ttft_ms)


def _mean_ms(rows: Rows, name: str) -> Figure:
    """Return the mean of a time over all that ended in the rows' intervals."""
    count, mean_ms = rows[f"{name}_count"], rows[f"{name}_mean_ms"]
    if np.isnan(count).all():
        return Why("the server doesn't report it")
    ended = (count > 0) & ~np.isnan(mean_ms)
    if not ended.any():
        what = "first token came" if name == "ttft" else "request ended"
        return Why(f"no {what} between the readings")
    return float(np.average(mean_ms[ended], weights=count[ended]))


def _client_ttft_ms(facts: Facts, readings_s: Values) -> Values | Why:
    """Return TTFTs of first tokens between the first reading and the last, or why there are none.

    Failures are included, since the server counts them.
    """
    if facts.window is None and facts.info and facts.info.unmeasured.get("tail"):
        return Why("the server's mean includes requests of the tail, which have no rows")
    ttft_ms: Values = facts.frame["ttft_ms"]
    came_s = facts.frame["t_sent_s"] + ttft_ms / 1000  # NaN, which is never between
    between: Values = ttft_ms[(came_s > readings_s[0]) & (came_s <= readings_s[-1])]
    if between.size:
        return between
    if not facts.streaming:
        return Why("stream: false, so a reply is one piece")
    return Why("no first token came between the readings")


def _gauges(rows: Rows) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for column, name in GAUGES.items():
        samples = Samples.of(rows["t_s"], rows[column])
        why = Why(
            "the readings are too far apart"
            if samples.values.size >= MIN_SAMPLES
            else "the server doesn't report it"
        )
        mean, peak = samples.mean, samples.peak
        figures[f"{name}_mean"] = why if mean is None else mean
        figures[f"{name}_peak"] = why if peak is None else peak
    return figures


def _from_counters(facts: Facts) -> dict[str, Figure]:
    deltas, hits = counter_deltas(facts), cache_hit_rate(facts)
    if deltas is None:
        words = "the server's counters could not be read"
        preempted: Figure = Why(WHY_APART[change] if (change := server_change(facts)) else words)
    elif PREEMPTIONS not in deltas:
        preempted = Why("the server doesn't count them")
    else:
        preempted = round(deltas[PREEMPTIONS])
    unknown = Why("neither the server's counters nor its replies report it")
    return {"preemptions": preempted, "prefix_cache_hit_rate": unknown if hits is None else hits}
