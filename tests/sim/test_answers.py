"""What becomes of a request: for its client, in the truth file and in /metrics."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import socket
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from sim.answers import Answer, Server
from sim.api import Api
from sim.choice import Choice
from sim.engine.engine import EngineConfig, EngineState
from sim.engine.profiles import PROFILES
from sim.faults import read_faults
from sim.metrics import CONTENT_TYPE, Histogram, Metrics
from sim.truth import TruthLog
from sim.wire.connection import HttpRequest
from sim.wire.settings import ExactPace, Settings

from tests.sim.simulated import Simulated, read_counters
from tests.support.beside.waiting import wait_until

MS = 1_000_000
TTFT_NS, ITL_NS = 30 * MS, 3 * MS
FLAGS = ("--exact", "--ttft-ms", "30", "--itl-ms", "3", "--max-model-len", "2048")
ASK: dict[str, Any] = {"prompt": "hello", "max_tokens": 20, "ignore_eos": True}
ENGINE = EngineConfig(
    max_num_batched_tokens=2048,
    max_num_seqs=256,
    num_gpu_blocks=1000,
    max_model_len=8192,
    step_times=PROFILES["llama-8b-a100"].step_times_with("auto"),
)
USAGE = {"include_usage": True, "continuous_usage_stats": True}


class ByHand:
    """A pacing that makes tokens when it is told to."""

    pace = ExactPace(TTFT_NS, ITL_NS)

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.stopped: list[Choice] = []

    def start(self, choice: Choice) -> None:
        self.choices.append(choice)

    def stop(self, choice: Choice) -> None:
        self.stopped.append(choice)

    def state(self) -> EngineState:
        return EngineState()


class Wire:
    """A connection that keeps what it is given."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.paused = False
        self.listener: Answer | None = None
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def start_stream(self) -> None:
        self.written.append(b"head")

    def put(self, status: int, body: bytes, *_: object, **__: object) -> None:
        self.written.append(body)

    def end(self) -> None:
        self.listener = None

    close = reset = end


def ask(faults: str = "", interval: int = 1, **body: Any) -> tuple[ByHand, Wire, Server]:
    settings = Settings("m", ("m",), stream_interval=interval)
    pacing, wire, metrics = ByHand(), Wire(), Metrics(settings, EngineState)
    server = Server(settings, pacing, TruthLog(None), metrics, read_faults(faults))
    text = json.dumps({"prompt": "hi", "max_tokens": 6, "ignore_eos": True, **body}).encode()
    request = HttpRequest("POST", "/v1/completions", {}, text, True, time.perf_counter_ns())
    Api(server).handle(request, wire)  # type: ignore[arg-type]
    return pacing, wire, server


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("faults", ["", "cut@2", "error_event@2", "merge=2"])
@pytest.mark.parametrize("leaves", [True, False])
def test_an_answer_that_is_over_is_freed_without_the_garbage_collector(
    stream: bool, faults: str, leaves: bool
) -> None:
    # It is off while streams run; what only it could free would pile up.
    gc.collect()
    gc.disable()
    try:
        pacing, wire, server = ask(faults, stream=stream)
        answer = weakref.ref(next(iter(server.live)))
        for _ in range(2 if leaves else 6):
            if wire.listener is not None:
                pacing.choices[0].token()
        if wire.listener is not None:
            wire.listener.client_gone()
        wire.listener = None
        pacing.choices.clear()
        pacing.stopped.clear()
        assert not server.live
        assert answer() is None
    finally:
        gc.enable()


def test_tokens_wait_while_the_client_does_not_read_and_leave_in_one_event() -> None:
    pacing, wire, server = ask(stream=True)
    choice = pacing.choices[0]
    choice.token()
    wire.paused = True
    for _ in range(3):
        choice.token()
    assert len(wire.written) == 2  # the head and the first token
    wire.paused = False
    assert wire.listener is not None
    wire.listener.resume()
    assert len(wire.written) == 3
    assert choice.sent == choice.made == 4
    assert next(iter(server.live)).sent_tokens == [1, 3]


def test_an_interval_gives_one_token_then_so_many_then_the_rest() -> None:
    pacing, _, server = ask(stream=True, interval=3)
    answer = next(iter(server.live))
    for _ in range(6):
        pacing.choices[0].token()
    assert answer.sent_tokens == [1, 3, 2]


def test_a_client_that_left_frees_what_the_engine_holds_for_it() -> None:
    pacing, wire, server = ask(stream=True, n=2)
    pacing.choices[0].token()
    assert wire.listener is not None
    wire.listener.client_gone()
    assert pacing.stopped == pacing.choices
    assert 'finished_reason="abort",model_name="m"} 2.0' in server.metrics.text().decode()


def test_metrics_are_up_to_date_in_mid_stream() -> None:
    pacing, _, server = ask(stream=True)
    for made in range(1, 4):
        pacing.choices[0].token()
        text = server.metrics.text().decode()
        assert f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {made}.0' in text
        assert "inter_token_latency_seconds_count" in text
        assert 'vllm:num_requests_running{engine="0",model_name="m"} 1.0' in text


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_each_family_has_the_words_labels_and_buckets_of_a_real_server(
    shared: Path,
) -> None:
    head, _, text = (shared / "wire" / "metrics_before.txt").read_text().partition("\n\n")
    real = families(text)
    ours = families(Metrics(Settings("tiny", ("tiny",)), EngineState).text().decode())
    assert f"content-type: {CONTENT_TYPE}" in head
    for name, mine in ours.items():
        assert (mine.type, mine.documentation) == (real[name].type, real[name].documentation)
        assert series(mine) == series(real[name]), name


def series(family: Any) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Names and labels of a family's samples; of the cache's settings, the names alone."""
    if family.name == "vllm:cache_config_info":
        return {(sample.name, frozenset()) for sample in family.samples}
    made = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return {(sample.name, frozenset(sample.labels.items())) for sample in made}


@given(st.lists(st.floats(0, 100) | st.sampled_from([0.1, 0.5, 1.0])))
def test_the_histogram_counts_as_prometheus_own_does(values: list[float]) -> None:
    bounds = (0.1, 0.5, 1.0, 10.0)
    theirs = prometheus_client.Histogram("x", "x", buckets=bounds, registry=None)
    ours = Histogram(bounds)
    ours.observe(values)
    for value in values:
        theirs.observe(value)
    samples = {s.labels["le"]: s.value for m in theirs.collect() for s in m.samples if s.labels}
    assert dict(ours.buckets()) == samples
    assert ours.total == pytest.approx(sum(values))


@pytest.fixture(scope="module")
def ended() -> Iterator[tuple[list[dict[str, Any]], dict[str, float], list[Any]]]:
    """The truth, the counters and a client's view of a few requests."""
    with Simulated(*FLAGS) as server:
        client = server.client
        whole = client.post("/v1/completions", json=ASK, headers={"X-Request-Id": "whole"}).json()
        streamed = server.stream("/v1/completions", **ASK, stream_options=USAGE)
        chat = server.stream(
            "/v1/chat/completions",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=9,
            n=3,
            ignore_eos=True,
            return_token_ids=True,
        )
        client.post("/v1/completions", json={**ASK, "temperature": -1})
        counters = read_counters(client.get("/metrics").text)
        yield server.truth(), counters, [whole, streamed, chat]


Ended = tuple[list[dict[str, Any]], dict[str, float], list[Any]]


def test_truth_has_a_line_for_each_request_with_its_own_name(ended: Ended) -> None:
    truth, _, (whole, streamed, chat) = ended
    assert [record["outcome"] for record in truth] == ["ok", "ok", "ok", "http_400"]
    assert (truth[0]["request_id"], whole["id"]) == ("whole", "cmpl-whole")
    assert streamed[0]["id"] == f"cmpl-{truth[1]['request_id']}"
    assert chat[0]["id"] == f"chatcmpl-{truth[2]['request_id']}"


def test_truths_tokens_are_those_that_the_client_got(ended: Ended) -> None:
    truth, _, (whole, streamed, chat) = ended
    assert truth[0]["tokens"] == [whole["usage"]["completion_tokens"]] == [20]
    counts = [event["usage"]["completion_tokens"] for event in streamed[:-2]]
    assert counts == list(itertools.accumulate(truth[1]["tokens"]))
    assert truth[1]["prompt_tokens"] == streamed[-2]["usage"]["prompt_tokens"]
    ids = [c["token_ids"] for e in chat[:-1] for c in e["choices"] if c.get("token_ids")]
    assert list(map(len, ids)) == truth[2]["tokens"]
    assert sum(truth[2]["tokens"]) == truth[2]["completion_tokens"] == 27


def test_no_stamp_lies_before_its_deadline(ended: Ended) -> None:
    for record in ended[0][1:2]:
        stamps = record["t_sent_ns"]
        assert stamps == sorted(stamps)
        for token, sent_ns in enumerate(stamps):
            assert sent_ns >= record["t_received_ns"] + TTFT_NS + token * ITL_NS
        assert record["t_end_ns"] >= stamps[-1]


def test_the_server_keeps_its_pace_rather_than_the_gaps(ended: Ended) -> None:
    # Were each token timed from the one before, no gap could be shorter: latenesses would add up.
    gaps_ns = [after - before for before, after in itertools.pairwise(ended[0][1]["t_sent_ns"])]
    assert min(gaps_ns) < ITL_NS


def test_the_choices_of_a_chat_come_side_by_side_after_all_their_roles(ended: Ended) -> None:
    chat = ended[2][2]
    assert ["role" in e["choices"][0]["delta"] for e in chat[:4]] == [True, True, True, False]
    for choice in range(3):
        mine = [c for e in chat[:-1] for c in e["choices"] if c["index"] == choice]
        assert [c["finish_reason"] for c in mine] == [None] * 9 + ["length"]


def test_the_counters_agree_with_the_truth_to_the_token(ended: Ended) -> None:
    truth, counters, _ = ended
    done = [record for record in truth if record["outcome"] == "ok"]
    generated = sum(record["completion_tokens"] for record in done)
    # vLLM runs each of the n choices as a request of its own, which has the prompt again.
    prompts = sum(r["prompt_tokens"] * (3 if r["endpoint"] == "chat" else 1) for r in done)
    assert counters["vllm:generation_tokens_total"] == generated == 67
    assert counters["vllm:prompt_tokens_total"] == prompts
    assert counters["vllm:request_success_total"] == 5
    assert counters["vllm:request_decode_time_seconds_count"] == 5
    assert counters["vllm:time_to_first_token_seconds_count"] == 5
    assert counters["vllm:inter_token_latency_seconds_count"] == generated - 5
    assert counters["vllm:num_requests_running"] == 0


@pytest.mark.process
def test_a_client_that_leaves_is_written_down_and_its_tokens_stop() -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "20") as server:
        with server.client.stream(
            "POST", "/v1/completions", json={**ASK, "max_tokens": 500, "stream": True}
        ) as answer:
            next(answer.iter_bytes())
        server.client.close()
        truth = wait_until(server.so_far)
    assert truth[0]["outcome"] == "client_gone"
    assert 1 <= truth[0]["completion_tokens"] < 500


def test_servers_that_were_started_otherwise_call_themselves_otherwise() -> None:
    _, _, server = ask()

    def fingerprint(pace: Any, interval: int = 1) -> str:
        server.pacing.pace = pace  # type: ignore[misc]
        settings = Settings("m", ("m",), stream_interval=interval)
        return Server(settings, server.pacing, server.truth, server.metrics, ()).fingerprint

    batches = [dataclasses.replace(ENGINE, max_num_seqs=n) for n in (16, 64)]
    paces = [*batches, dataclasses.replace(ENGINE, block_size=32), ExactPace(1, 1), ExactPace(1, 2)]
    assert len({fingerprint(pace) for pace in paces}) == len(paces)
    assert fingerprint(ENGINE) == fingerprint(dataclasses.replace(ENGINE))
    assert fingerprint(ENGINE) != fingerprint(ENGINE, interval=8)


@pytest.mark.process
def test_a_stop_in_mid_stream_loses_no_record() -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "20") as server:
        with server.client.stream(
            "POST", "/v1/completions", json={**ASK, "max_tokens": 500, "stream": True}
        ) as answer:
            reads = answer.iter_bytes()  # kept: a reader that is dropped hangs up
            next(reads)
            assert server.stop() == 0
        truth = server.truth()
    assert [record["outcome"] for record in truth] == ["server_stopped"]


@pytest.mark.process
def test_a_client_that_does_not_read_gets_all_tokens_later_in_fewer_events() -> None:
    tokens = 120_000
    with Simulated("--exact", "--ttft-ms", "0", "--itl-ms", "0") as server:
        body = {"prompt": "x", "max_tokens": tokens, "ignore_eos": True, "stream": True}
        body |= {"stream_options": USAGE}
        text = json.dumps(body).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((host, int(port)))
            head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(text)}\r\n"
            sock.sendall(f"{head}connection: close\r\n\r\n".encode() + text)
            generated = "vllm:generation_tokens_total"
            page = partial(server.client.get, "/metrics")
            wait_until(lambda: read_counters(page().text)[generated] >= tokens)
            received = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert b'"completion_tokens":%d' % tokens in received
        record = server.truth()[0]
    assert sum(record["tokens"]) == tokens
    assert max(record["tokens"]) > 1
