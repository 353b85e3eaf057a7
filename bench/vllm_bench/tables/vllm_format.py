"""A run as the JSON that `vllm bench serve --save-result` writes, for dashboards that read those.

The figures are of all requests of the run, as vLLM's are, start and drain included, and not of
those in the steady window. TTFT, TPOT and latency count from the send,
in an open loop too; ITL has one value per token, which is vLLM's as long as a chunk has one token;
throughput is that of the whole run; the peak of concurrent requests is exact. A missing value is
null, and so is a percentile with too few samples. Lists with one value per request are left out:
they are in the rows. Classes of users, which vLLM doesn't know, are beside: `classes`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ..records.find_runs import Run
from ..records.row import follow
from ..summary.summary import RunSummary, facts_of, summarize

# TTFA is none of vLLM's: it is there where replies thought.
METRICS = {"ttft": "ttft_ms", "tpot": "tpot_ms", "itl": "itl_ms", "e2el": "latency_ms"}
SHOWN = (50, 90, 95, 99)


def over_all(run: Run) -> RunSummary:
    """Return a run's summary over all of its requests."""
    return summarize(run, replace(facts_of(run), whole=True))


def to_vllm(summary: RunSummary) -> bytes:
    """Return a run, summed up over all requests, as vLLM's own benchmark would have written it."""
    classes = {name: _as_theirs(part) for name, part in summary.classes.items()}
    found = {**_as_theirs(summary), **({"classes": classes} if classes else {})}
    return orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"


def _as_theirs(summary: RunSummary) -> dict[str, Any]:
    found = {**_setup(summary), **_totals(summary)}
    more = {"ttfa": "ttfa_ms"} if summary.thinking else {}
    for short, metric in {**METRICS, **more}.items():
        at = f"distributions.{metric}"
        paths = {f"mean_{short}_ms": f"{at}.mean", f"median_{short}_ms": f"{at}.percentiles.50"}
        paths[f"std_{short}_ms"] = f"{at}.std"
        paths |= {f"p{q}_{short}_ms": f"{at}.percentiles.{q}" for q in SHOWN}
        found |= {name: follow(summary, path) for name, path in paths.items()}
    return found


def _setup(summary: RunSummary) -> dict[str, Any]:
    names = {"chat": "openai-chat", "responses": "openai-responses"}
    backend = names.get(summary.setting("endpoint"), "openai")
    is_open, load = summary.load.is_open, summary.load.value
    return {
        "date": summary.started("%Y%m%d-%H%M%S"),
        "endpoint_type": backend,
        "backend": backend,
        "label": summary.run_id,
        "model_id": summary.setting("model"),
        "tokenizer_id": summary.server("model_root") or summary.setting("model"),
        "num_prompts": summary.info.num_requests if summary.info else summary.requests,
        "request_rate": load if is_open else "inf",
        "burstiness": _burstiness(summary) if is_open else 1.0,
        "max_concurrency": summary.plan("max_in_flight") if is_open else int(load),
    }


def _burstiness(summary: RunSummary) -> float | str | None:
    """Return the shape of the gamma distribution of the gaps; None: another distribution.

    A constant rate is the limit at infinity, which JSON has no number for: vLLM writes an
    infinite rate as "inf", too.
    """
    cv = summary.plan("cv")
    if summary.plan("shape") == "gamma" and isinstance(cv, int | float) and cv > 0:
        return float(1 / cv**2)
    known: dict[Any, float | str] = {"poisson": 1.0, "constant": "inf"}
    return known.get(summary.plan("shape"))


def _totals(summary: RunSummary) -> dict[str, Any]:
    done, met = summary.throughput, summary.attainment
    return {
        "duration": follow(summary, "throughput.span_s"),
        "completed": summary.succeeded,
        "failed": summary.requests - summary.succeeded,
        "total_input_tokens": int(done.prompt_tokens) if done else 0,
        "total_output_tokens": int(done.output_tokens or 0) if done else 0,
        "request_throughput": follow(summary, "throughput.requests_per_s"),
        "request_goodput": met.good / done.span_s if met and met.on_requests and done else None,
        "output_throughput": follow(summary, "throughput.output_tokens_per_s"),
        "total_token_throughput": follow(summary, "throughput.total_tokens_per_s"),
        "max_output_tokens_per_s": summary.peak_output_tokens_per_s,
        "max_concurrent_requests": follow(summary, "in_flight.peak"),
        "rtfx": 0.0,
    }
