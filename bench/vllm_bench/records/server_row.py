"""What a server says at one moment: the columns of `results/server_metrics/<run_id>.csv`.

One row for each engine, and one for all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass

from .samples import columns, doc

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One engine at one moment. An empty cell is a value that the server doesn't give.

    Means are over the observations that ended since the engine's row before, and empty where
    there was none; a window's mean is the sum of mean times count over its rows by that of count.
    """

    t_s: float = doc("half-way between question and answer, from the run's start; negative before")
    wall_s: float = doc("the same moment on this machine's wall clock")
    fetch_ms: float = doc("from question to answer: a busy server takes its time")
    engine: str = doc("the server's engine (one each data-parallel rank), or all of them")
    running: float | None = doc("requests in the batch; all: the sum", default=None)
    waiting: float | None = doc("requests in the queue; all: the sum", default=None)
    kv_cache_usage: float | None = doc(
        "share of KV blocks in use, 0-1; all: the mean", default=None
    )
    preemptions_total: float | None = doc("since the server's start", default=None)
    prefix_cache_queries_total: float | None = doc(
        "prompt tokens looked up in the prefix cache since the server's start", default=None
    )
    prefix_cache_hits_total: float | None = doc("of these, found", default=None)
    prompt_tokens_total: float | None = doc("since the server's start", default=None)
    generation_tokens_total: float | None = doc("since the server's start", default=None)
    ttft_mean_ms: float | None = doc(
        "time to first token by the server's clock, its queue included", default=None
    )
    ttft_count: int | None = doc("first tokens since the row before", default=None)
    itl_mean_ms: float | None = doc("inter-token latency by the server's clock", default=None)
    itl_count: int | None = doc("inter-token latencies since the row before", default=None)
    queue_mean_ms: float | None = doc("time in the queue of requests that ended", default=None)
    queue_count: int | None = doc("requests that ended since the row before", default=None)
    prefill_mean_ms: float | None = doc("prefill time of requests that ended", default=None)
    prefill_count: int | None = doc("requests that ended since the row before", default=None)
    decode_mean_ms: float | None = doc("decode time of requests that ended", default=None)
    decode_count: int | None = doc("requests that ended since the row before", default=None)


COLUMNS: tuple[str, ...] = columns(ServerRow)
