"""Cases in which something is wrong, so that a figure is: none of them may be VALID."""

from __future__ import annotations

from typing import Any

from .beside import buffering, busy, foreign, restarted
from .healthy import ARRIVALS, COLD, EQUAL, FAST, NATURAL, OPEN, SLOW, STREAMS, TALK
from .inputs import ALIKE
from .situation import HEADLINE, Beside, Setup, Situation

QUEUE = f"{FAST} --max-num-seqs 8"
CAPACITY = 34.5  # requests/s that QUEUE can serve of these prompts and replies
SOUND = "users of a sound server"
LONGER = "users of a run twice as long"
COLD_USERS = "users of a run without hits"


def _on(faults: str, **more: Any) -> Setup:
    """Return the closed loop on a server with these faults."""
    return Setup(f"{SLOW} --faults {faults}", {**STREAMS, **more})


def _through(beside: Beside) -> Setup:
    return Setup(SLOW, STREAMS, beside=beside)


def _queued(load: float, seconds: float, **more: Any) -> Setup:
    rate = load * CAPACITY
    return Setup(QUEUE, {"request_rates": [rate], "num_requests": round(seconds * rate), **more})


CLUSTERS: dict[str, Any] = {"arrival": "gamma", "cv": 3}
QUICK: dict[str, Any] = {"num_requests": 380}  # as many as take 12 s, with hits
SHARED: dict[str, Any] = {"concurrencies": [8], "num_requests": 460}

WRONG: tuple[Situation, ...] = (
    Situation(
        "a proxy that buffers", "replies pass when they are whole", _through(buffering(1 << 20))
    ),
    Situation("a proxy that buffers 4 kB", "16 tokens pass at once", _through(buffering(4096))),
    Situation(
        "a server that stands still",
        "for 2 s in every 10; closed loop",
        _on("stand_still=2s"),
        meant=Setup(f"{SLOW} --faults stand_still=2s", {**ARRIVALS, "request_rates": [13]}),
        truth="users who come by themselves",
    ),
    Situation(
        "prompts that begin alike",
        "94 % of each comes from the cache",
        Setup(SLOW, {**STREAMS, **QUICK, "dataset": f"file:{ALIKE}", "cache": "run"}),
        meant=COLD,
        truth=COLD_USERS,
    ),
    Situation(
        "salts ignored",
        "`cache: cold` on a server that takes no notice of salts",
        _on("ignore_salt", **QUICK, dataset=COLD.scenario["dataset"]),
        meant=COLD,
        truth=COLD_USERS,
    ),
    Situation(
        "no token event",
        "streams of a finish and a usage",
        _on("no_tokens"),
        meant=NATURAL,
        truth=SOUND,
    ),
    Situation(
        "all tokens in one event", "it is the last", _on("all_in_one"), meant=NATURAL, truth=SOUND
    ),
    Situation("usage of too many tokens", "1,000 where 64 were allowed", _on("claim=1000")),
    Situation("usage of too few tokens", "20, whatever came", _on("claim=20")),
    Situation(
        "prompts counted otherwise",
        "usage has 100 tokens more than /tokenize",
        _on("claim_prompt=100"),
        figures=(*HEADLINE, "prompt tokens p50"),
    ),
    Situation(
        "another model answers",
        "a smaller one, four times as fast",
        Setup(f"{FAST} --faults other_model", {**STREAMS, "num_requests": 800}),
        meant=NATURAL,
        truth="users of the model that was asked for",
    ),
    Situation(
        "150 % of capacity",
        "gamma arrivals, cv 3",
        _queued(1.5, 13, **CLUSTERS),
        meant=_queued(1.5, 26, **CLUSTERS),
        truth=LONGER,
    ),
    Situation(
        "110 % of capacity",
        "Poisson arrivals",
        _queued(1.1, 24),
        meant=_queued(1.1, 48),
        truth=LONGER,
    ),
    Situation(
        "foreign traffic of 20 %",
        "another client holds 2 streams beside 8, where 8 have place",
        Setup(QUEUE, SHARED, beside=foreign(2, 60)),
        meant=Setup(QUEUE, SHARED),
        truth="users of a server of their own",
    ),
    Situation(
        "errors", "8 % of the requests get status 500", _on("http_500:0.08", num_requests=240)
    ),
    Situation(
        "truncated streams", "8 % end after 5 tokens", _on("no_done:0.08@5", num_requests=240)
    ),
    Situation(
        "a run too short",
        "50 requests on 16 streams",
        Setup(SLOW, {**STREAMS, "num_requests": 50}),
        meant=NATURAL,
        truth="users of a longer run",
    ),
    Situation(
        "a client without CPU",
        "4 busy processes on its core",
        Setup("--exact --ttft-ms 15 --itl-ms 3", {**STREAMS, "num_requests": 900}, beside=busy(4)),
    ),
    Situation(
        "a machine that dies",
        "one of three that send, 9 s after it was started",
        Setup(SLOW, STREAMS, machines=("", "", "timeout -s KILL 9")),
    ),
    Situation(
        "a start together",
        "16 streams of equal lengths, `start: together`",
        Setup(SLOW, {**EQUAL.scenario, "start": "together"}),
        meant=EQUAL,
        truth="users of a staggered start",
    ),
    Situation(
        "replies shorter than asked",
        "20 tokens in spite of `ignore_eos`",
        _on("short=20", ignore_eos=True, num_requests=640),
        meant=EQUAL,
        truth=SOUND,
    ),
    Situation(
        "a server that restarts",
        "in mid-run; its counters begin again",
        Setup(SLOW, ARRIVALS, beside=restarted(8.0)),
    ),
    Situation(
        "several engines that restart",
        "in mid-run; they don't tell when they began",
        Setup(f"{SLOW} --data-parallel-size 2", ARRIVALS, beside=restarted(8.0)),
    ),
    Situation(
        "an engine that idles",
        "one of four",
        Setup(f"{SLOW} --data-parallel-size 4 --faults idle_engine", STREAMS),
    ),
    Situation(
        "answers without text",
        "conversations in which all tokens are reasoning",
        Setup(f"{SLOW} --faults only_thinks", TALK.scenario),
        meant=TALK,
        truth=SOUND,
    ),
    Situation(
        "a cap that binds",
        "`max_in_flight: 8` where 20 are needed",
        Setup(SLOW, {**ARRIVALS, "max_in_flight": 8}),
        meant=OPEN,
        truth="users of a run without a cap",
    ),
)
