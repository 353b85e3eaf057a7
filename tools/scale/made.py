"""A plan and judged requests from memory: what a foreman sends, without a server or a socket."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace

from vllm_bench.crew.judged import Judged
from vllm_bench.plan.part import Part
from vllm_bench.plan.plan import Plan
from vllm_bench.plan.request import make_target
from vllm_bench.prompts.prompt import PromptSet, checksum, user_prompt
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.scenario.load import levels_of
from vllm_bench.scenario.scenario import Scenario

ITL_S = 0.02
MS = 1e3
STREAMS_A_MACHINE = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What made foremen send."""

    machines: int
    rows_per_s: float  # of all machines together; 0: none
    tokens: int  # of each reply, each with a stamp of its own
    seconds: float
    files: bool = True  # whether the head writes a stamp for each token
    screen: bool = False  # whether the head shows its live view
    stay: bool = False  # whether rows stay with their machines until the run is over


def made_plan(load: Load, prompts: int = 64, prompt_chars: int = 400) -> Plan:
    """Return the plan of a closed loop that goes by time."""
    given = {
        "name": "made",
        "base_url": "http://127.0.0.1:9/v1",
        "model": "made",
        "dataset": "sample",
        "concurrencies": [STREAMS_A_MACHINE * load.machines],
        "num_requests": 1,
        "warmup_requests": 0,
        "duration_s": load.seconds,
        "max_new_tokens": max(1, load.tokens),
        "start": "together",
    }
    scenario = Scenario.model_validate(given)
    texts = tuple(user_prompt(f"p{i}", f"{i} " + "x" * prompt_chars) for i in range(prompts))
    drawn = PromptSet("made", texts, checksum(texts), prompts, 1, prompts, "nobody", ())
    level = levels_of(scenario)[0]
    part = Part(scenario, level, 1, make_target(scenario, None), drawn)
    return Plan(scenario, level, 1, (part,), time_utc="20260101T000000Z")


def made_judged(plan: Plan, tokens: int) -> Judged:
    """Return a request that succeeded: all columns of a reply that streamed have a value."""
    latency_s = 0.1 + ITL_S * tokens
    record = RequestRecord(
        run_id=plan.run_id,
        scenario=plan.scenario.name,
        machine=plan.machine,
        concurrency=plan.level.concurrency,
        request_rate=None,
        request_index=0,
        request_id=f"{plan.run_id}-0",
        prompt_id="p0",
        conversation_id=None,
        turn=None,
        stream_index=0,
        t_scheduled_s=0.0,
        t_sent_s=0.0001,
        t_end_s=latency_s,
        send_lag_ms=0.1,
        connect_ms=None,
        ttft_ms=100.0 if tokens else None,
        ttfa_ms=100.0 if tokens else None,
        latency_ms=latency_s * MS,
        tpot_ms=ITL_S * MS if tokens > 1 else None,
        max_gap_ms=ITL_S * MS if tokens > 1 else None,
        prompt_tokens_planned=None,
        prompt_tokens=250,
        completion_tokens=tokens,
        cached_tokens=None,
        token_events=tokens,
        visible_events=tokens,
        token_reads=tokens,
        max_tokens=max(1, tokens),
        http_status=200,
        finish_reason="length",
        error_kind=None,
        error=None,
    )
    return Judged("measured", record, made_reads(0, tokens), model="made", fingerprint="made")


def made_reads(end_ns: int, tokens: int) -> tuple[array[int], array[int], array[int]]:
    """Return the stamps of a reply that ended then, 20 ms apart, a token each."""
    gap_ns = int(ITL_S * 1e9)
    stamps = array("q", range(end_ns - gap_ns * max(0, tokens - 1), end_ns + 1, gap_ns))
    one = array("H", [1]) * tokens
    return stamps[:tokens], one, one[:]


def ended(like: Judged, index: int, end_s: float) -> Judged:
    """Return a request that ended at this instant of the run, with texts and stamps of its own."""
    record, tokens = like.record, like.record.token_events
    latency_s = (record.latency_ms or 0.0) / MS
    own = replace(
        record,
        request_index=index,
        request_id=f"{record.run_id}-{index}",
        prompt_id=f"p{index % 64}",
        stream_index=index % (record.concurrency or 1),
        t_scheduled_s=end_s - latency_s - 0.0001,
        t_sent_s=end_s - latency_s,
        t_end_s=end_s,
    )
    return replace(like, record=own, reads=made_reads(int(end_s * 1e9), tokens))
