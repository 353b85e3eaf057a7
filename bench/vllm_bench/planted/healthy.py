"""Cases that are healthy in an ordinary way: none of them may be INVALID."""

from __future__ import annotations

from typing import Any

from .beside import foreign, replicas
from .inputs import FEW, GROWING
from .situation import Setup, Situation

SLOW = "--profile llama-8b-a100"
FAST = "--profile gpt-oss-20b-h100"

# Salts keep the prefix cache out of cases that aren't about it.
STREAMS: dict[str, Any] = {"concurrencies": [16], "num_requests": 205, "cache": "cold"}
ARRIVALS: dict[str, Any] = {"request_rates": [20], "arrival": "constant", "num_requests": 270}

NATURAL = Setup(SLOW, STREAMS)
EQUAL = Setup(SLOW, {**STREAMS, "ignore_eos": True})
OPEN = Setup(SLOW, ARRIVALS)
TALK = Setup(SLOW, {"concurrencies": [12], "num_requests": 200, "conversations": {"turns": 4}})
COLD = Setup(SLOW, {**STREAMS, "dataset": f"file:{FEW}"})  # as if no prompt came twice
# 16 streams get 16.2 requests/s.
QUEUED = Setup(f"{SLOW} --max-num-seqs 16", {"request_rates": [14.6], "num_requests": 200})
LONG = {"max_new_tokens": 400, "ignore_eos": True, "num_requests": 144}


def _healthy(name: str, planted: str, setup: Setup, **more: Any) -> Situation:
    return Situation(name, planted, setup, healthy=True, **more)


HEALTHY: tuple[Situation, ...] = (
    _healthy("natural lengths", "closed loop of 16 streams", NATURAL),
    _healthy("equal lengths", "closed loop of 16 streams with `ignore_eos`", EQUAL),
    _healthy("constant arrivals", "open loop at half of what the server can", OPEN),
    _healthy("fast server", "3.4 ms a token", Setup(FAST, {**STREAMS, "num_requests": 800})),
    _healthy(
        "very fast server",
        "8 streams of 1 ms a token",
        Setup(
            "--exact --ttft-ms 20 --itl-ms 1",
            {**STREAMS, "concurrencies": [8], "num_requests": 1100},
        ),
    ),
    _healthy(
        "several tokens a chunk",
        "the server's `--stream-interval 8`",
        Setup(f"{SLOW} --stream-interval 8", STREAMS),
    ),
    _healthy(
        "foreign traffic of 1 %",
        "another client asks for 10 tokens once a second",
        Setup(SLOW, STREAMS, beside=foreign(1, 10, pause_s=1.0)),
    ),
    _healthy(
        "a trace that grows",
        "its requests become three times as long",
        Setup(SLOW, {"trace": GROWING, "ignore_eos": True}),
    ),
    _healthy("90 % of capacity", "Poisson arrivals at 16 places", QUEUED),
    _healthy("conversations", "12 streams, 4 turns each", TALK),
    _healthy(
        "not streamed",
        "`stream: false`",
        Setup(SLOW, {**STREAMS, "stream": False}),
        figures=("latency p50", "tokens/s"),
    ),
    _healthy(
        "a small prompt set",
        "16 prompts for 205 requests, under `cache: run`",
        Setup(SLOW, {**COLD.scenario, "cache": "run"}),
        meant=COLD,
        truth="users of a run under `cache: cold`",
    ),
    _healthy("long replies", "400 tokens each", Setup(FAST, {**STREAMS, **LONG})),
    _healthy("reasoning", "replies begin with reasoning", Setup(f"{SLOW} --reasoning", STREAMS)),
    _healthy("a ramp", "`ramp_s: 3`", Setup(SLOW, {**ARRIVALS, "ramp_s": 3})),
    _healthy(
        "bursts",
        "8 requests at each instant",
        Setup(SLOW, {**ARRIVALS, "arrival": "bursts", "burst_size": 8}),
    ),
    _healthy(
        "a cap that is never reached",
        "`max_in_flight: 100`, 20 are",
        Setup(SLOW, {**ARRIVALS, "max_in_flight": 100}),
    ),
    _healthy(
        "two replicas", "a balancer gives them requests in turn", Setup(SLOW, ARRIVALS, replicas())
    ),
    _healthy(
        "four engines", "`--data-parallel-size 4`", Setup(f"{SLOW} --data-parallel-size 4", STREAMS)
    ),
    _healthy("two sending processes", "`--workers 2`", Setup(SLOW, STREAMS, workers=2)),
    _healthy("three machines", "three `--senders`", Setup(SLOW, STREAMS, machines=("", "", ""))),
)
