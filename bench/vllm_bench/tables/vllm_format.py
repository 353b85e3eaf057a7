"""A run as the JSON that `vllm bench serve --save-result` writes, for dashboards that read those.

The figures keep this project's meanings where the names agree: TTFT, TPOT and latency do, and
count from the send, as vLLM's do, in an open loop too; ITL is a value a token, which is vLLM's as
long as a chunk holds one token; throughput is that of the whole run; the peak of concurrent
requests is exact. What doesn't exist is null, a percentile without the samples too. Lists with a
value a request are left out: they are in the rows.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import orjson

from ..figures.statistics import Distribution
from ..summary.summary import RunSummary

METRICS = {"ttft": "ttft_ms", "tpot": "tpot_ms", "itl": "itl_ms", "e2el": "latency_ms"}
SHOWN = (50.0, 90.0, 95.0, 99.0)


def to_vllm(summary: RunSummary) -> bytes:
    """Return the run as vLLM's own benchmark would have written it."""
    found = {**_setup(summary), **_totals(summary)}
    for short, metric in METRICS.items():
        found.update(_metric(short, summary.distributions.get(metric)))
    return orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"


def _setup(summary: RunSummary) -> dict[str, Any]:
    chat = summary.setting("endpoint") == "chat"
    backend = "openai-chat" if chat else "openai"
    streams = summary.load.unit == "streams"
    planned = summary.info.num_requests if summary.info else summary.requests
    return {
        "date": _date(summary),
        "endpoint_type": backend,
        "backend": backend,
        "label": summary.run_id,
        "model_id": summary.setting("model"),
        "tokenizer_id": summary.server("model_root") or summary.setting("model"),
        "num_prompts": planned,
        "request_rate": "inf" if streams else summary.load.value,
        "burstiness": 1.0 if streams else _burstiness(summary),
        "max_concurrency": int(summary.load.value) if streams else summary.plan("max_in_flight"),
    }


def _burstiness(summary: RunSummary) -> float | str | None:
    """Return the shape of the gamma distribution that gaps were drawn from; None: from no such.

    A constant rate is the limit at infinity, which JSON has no number for: vLLM writes an
    infinite rate as "inf", too.
    """
    cv = summary.plan("cv")
    if summary.plan("shape") == "gamma" and isinstance(cv, int | float) and cv > 0:
        return float(1 / cv**2)
    known: dict[Any, float | str] = {"poisson": 1.0, "constant": "inf"}
    return known.get(summary.plan("shape"))


def _date(summary: RunSummary) -> str | None:
    if summary.info is None:
        return None
    started = datetime.fromtimestamp(summary.info.clock_start.wall_s, timezone.utc)
    return f"{started:%Y%m%d-%H%M%S}"


def _totals(summary: RunSummary) -> dict[str, Any]:
    done, met = summary.throughput, summary.attainment
    return {
        "duration": done.span_s if done else None,
        "completed": summary.succeeded,
        "failed": summary.requests - summary.succeeded,
        "total_input_tokens": int(done.prompt_tokens) if done else 0,
        "total_output_tokens": int(done.output_tokens or 0) if done else 0,
        "request_throughput": done.requests_per_s if done else None,
        "request_goodput": met.good / done.span_s if met and done else None,
        "output_throughput": done.output_tokens_per_s if done else None,
        "total_token_throughput": done.total_tokens_per_s if done else None,
        "max_output_tokens_per_s": summary.peak_output_tokens_per_s,
        "max_concurrent_requests": summary.in_flight.peak if summary.in_flight else None,
        "rtfx": 0.0,
    }


def _metric(short: str, found: Distribution | None) -> dict[str, float | None]:
    shown = {f"p{q:g}_{short}_ms": found.percentile(q) if found else None for q in SHOWN}
    return {
        f"mean_{short}_ms": found.mean if found else None,
        f"median_{short}_ms": found.percentile(50) if found else None,
        f"std_{short}_ms": found.std if found else None,
        **shown,
    }
