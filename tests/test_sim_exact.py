"""Exact mode and its truth, over the wire: whatever the machine's speed, these hold."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sim.pacing import ExactPacing
from sim.wire.settings import ExactPace

from tests.simulated import Simulated, events

MS = 1_000_000
TTFT_NS, ITL_NS = 30 * MS, 3 * MS
FLAGS = ("--exact", "--ttft-ms", "30", "--itl-ms", "3", "--max-model-len", "2048")
ASK: dict[str, Any] = {"prompt": "hello", "max_tokens": 20, "ignore_eos": True}
USAGE = {"include_usage": True, "continuous_usage_stats": True}


class FakeChoice:
    """As much of a choice as the pacing looks at."""

    def __init__(
        self, received_ns: int, length: int, log: list[tuple[str, int]], name: str
    ) -> None:
        self.answer = self
        self.caller = self
        self.over = False
        self.received_ns = received_ns
        self.length = length
        self.made = 0
        self.log = log
        self.name = name

    def started(self, cached_tokens: int, now_ns: int) -> None:
        assert (cached_tokens, now_ns) == (0, self.received_ns)

    def token(self) -> None:
        self.log.append((self.name, time.perf_counter_ns()))
        self.made += 1


def play(pace: ExactPace, offsets_ns: dict[str, int], length: int) -> list[tuple[str, int]]:
    """What the pacing does for choices that came at some offsets, relative to a common start."""
    log: list[tuple[str, int]] = []
    start_ns = time.perf_counter_ns()

    async def run() -> None:
        pacing = ExactPacing(asyncio.get_running_loop(), pace, seed=1)
        choices = [
            FakeChoice(start_ns + offset, length, log, name) for name, offset in offsets_ns.items()
        ]
        for choice in choices:
            pacing.start(choice)  # type: ignore[arg-type]
        while any(choice.made < length for choice in choices):
            await asyncio.sleep(0.001)

    asyncio.run(run())
    return [(name, at_ns - start_ns) for name, at_ns in log]


def test_no_token_comes_before_its_deadline_and_deadlines_do_not_drift() -> None:
    log = play(ExactPace(10 * MS, 2 * MS), {"a": 0, "b": 1 * MS}, 10)
    for name, offset in (("a", 0), ("b", 1 * MS)):
        times = [at for who, at in log if who == name]
        deadlines = [offset + 10 * MS + 2 * MS * token for token in range(10)]
        assert all(at >= due for at, due in zip(times, deadlines, strict=True))


def test_what_is_overdue_comes_at_once_in_the_order_of_the_deadlines() -> None:
    # All deadlines lie in the past, b's first and a's and b's in turn: no waiting, that order.
    log = play(ExactPace(10 * MS, 2 * MS), {"a": -1000 * MS, "b": -1001 * MS}, 4)
    assert "".join(name for name, _ in log) == "babababa"


def test_jitter_moves_deadlines_alike_in_every_run() -> None:
    pace = ExactPace(0, 10 * MS, 9 * MS)
    # Long overdue, so only the order of the deadlines shows, and jitter makes it.
    offsets = dict.fromkeys("abcd", -1000 * MS)
    orders = [[name for name, _ in play(pace, offsets, 5)] for _ in range(2)]
    assert orders[0] == orders[1]
    assert orders[0] != [name for name, _ in play(ExactPace(0, 10 * MS), offsets, 5)]


@pytest.fixture(scope="module")
def ended() -> Iterator[tuple[list[dict[str, Any]], dict[str, float], list[Any]]]:
    """The truth, the counters and a client's view of a few requests."""
    with Simulated(*FLAGS) as server:
        client = server.client
        whole = client.post("/v1/completions", json=ASK, headers={"X-Request-Id": "whole"}).json()
        streamed = server.stream("/v1/completions", **ASK, request_id="mine", stream_options=USAGE)
        chat = server.stream(
            "/v1/chat/completions",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=9,
            n=3,
            stream_interval=4,
            ignore_eos=True,
            return_token_ids=True,
        )
        client.post("/v1/completions", json={**ASK, "temperature": -1})
        counters = read_counters(client.get("/metrics").text)
        yield server.truth(), counters, [whole, streamed, chat]


def read_counters(text: str) -> dict[str, float]:
    """The samples of /metrics by name, those of all labels added up."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            sums[name] = sums.get(name, 0) + float(line.rpartition(" ")[2])
    return sums


Ended = tuple[list[dict[str, Any]], dict[str, float], list[Any]]


def test_truth_has_a_line_for_each_request_with_its_own_name(ended: Ended) -> None:
    truth, _, (whole, streamed, chat) = ended
    assert [record["outcome"] for record in truth] == ["ok", "ok", "ok", "http_400"]
    assert whole["id"] == "cmpl-whole"
    assert streamed[0]["id"] == "cmpl-mine"
    assert [record["request_id"] for record in truth[:2]] == ["whole", "mine"]
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
    # Were each token timed from the one before, 19 latenesses would add up.
    record = ended[0][1]
    late = [
        sent_ns - record["t_received_ns"] - TTFT_NS - token * ITL_NS
        for token, sent_ns in enumerate(record["t_sent_ns"])
    ]
    assert min(late[10:]) < 10 * max(min(late[:10]), 1 * MS)


def test_an_interval_gives_one_token_then_so_many_then_the_rest(ended: Ended) -> None:
    truth, _, (_, _, chat) = ended
    for choice in range(3):
        mine = [c for e in chat[:-1] for c in e["choices"] if c["index"] == choice]
        assert [len(c.get("token_ids") or ()) for c in mine] == [0, 1, 4, 4]
        assert [c["finish_reason"] for c in mine] == [None, None, None, "length"]
    # All roles come before all tokens.
    assert ["role" in e["choices"][0]["delta"] for e in chat[:3]] == [True] * 3
    assert truth[2]["tokens"] == [1, 1, 1, 4, 4, 4, 4, 4, 4]


def test_the_counters_agree_with_the_truth_to_the_token(ended: Ended) -> None:
    truth, counters, _ = ended
    done = [record for record in truth if record["outcome"] == "ok"]
    generated = sum(record["completion_tokens"] for record in done)
    # vLLM runs each of the n choices as a request of its own, which has the prompt again.
    prompts = sum(r["prompt_tokens"] * (3 if r["endpoint"] == "chat" else 1) for r in done)
    assert counters["vllm:generation_tokens_total"] == generated == 67
    assert counters["vllm:prompt_tokens_total"] == prompts
    assert counters["vllm:request_success_total"] == 5
    assert counters["vllm:request_generation_tokens_sum"] == generated
    assert counters["vllm:time_to_first_token_seconds_count"] == 5
    assert counters["vllm:inter_token_latency_seconds_count"] == generated - 5
    assert counters["vllm:num_requests_running"] == 0


def test_a_client_that_leaves_is_written_down_and_its_tokens_stop() -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "20") as server:
        with server.client.stream(
            "POST", "/v1/completions", json={**ASK, "max_tokens": 500, "stream": True}
        ) as answer:
            next(answer.iter_bytes())
        server.client.close()
        deadline = time.monotonic() + 10
        while not (truth := server.so_far()) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert truth[0]["outcome"] == "client_gone"
    assert 1 <= truth[0]["completion_tokens"] < 500


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


def test_workers_share_a_port_and_a_truth_file() -> None:
    with Simulated(*FLAGS, "--workers", "2") as server:
        for _ in range(12):
            body = {**ASK, "stream": True}
            headers = {"connection": "close"}  # a new connection each: the kernel deals them out
            text = server.client.post("/v1/completions", json=body, headers=headers).text
            assert events(text)[-1] == "[DONE]"
        assert server.client.get("/metrics").status_code == 503
        truth = server.truth()
    assert len({record["request_id"] for record in truth}) == 12


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
            while read_counters(server.client.get("/metrics").text)[generated] < tokens:
                time.sleep(0.05)
            received = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert b'"completion_tokens":%d' % tokens in received
        record = server.truth()[0]
    assert sum(record["tokens"]) == tokens
    assert max(record["tokens"]) > 1
