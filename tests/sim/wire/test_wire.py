"""The wire: answers against those of a real vLLM, OpenAI's own client, HTTP as it may come."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.sim.simulated import Simulated, events
from tests.support.beside.waiting import LIMIT_S

FLAGS = ("--max-model-len", "2048", "--served-model-name", "tiny")
FAST = ("--exact", "--ttft-ms", "1", "--itl-ms", "0")
# What the real server was started with, where the answer shows it.
MORE_FLAGS = {
    "chat_stream_cached_prompt_details": (
        "--enable-prompt-tokens-details",
        "--profile",
        "tiny-cpu",
    ),
    "chat_stream_interval4_continuous": ("--stream-interval", "4"),
    "completions_stream_interval4": ("--stream-interval", "4"),
    "err_401": ("--api-key", "secret"),
    "err_500_engine_dead": ("--faults", "http_500"),
    "err_engine_dies_midstream": ("--faults", "error_event@40"),
}
GETS = {
    "health": "/health",
    "models": "/v1/models",
    "version": "/version",
    "err_404_path": "/v1/nothing",
    "err_405_get": "/v1/completions",
}
# Of what the simulator leaves out: nobody who measures asks for it.
LEFT_OUT = {"chat_stream_logprobs", "detokenize", "load"}
# Captures whose request wasn't kept, or whose server had been told to add what one can ask for;
# these give the same answers.
REQUESTS: dict[str, dict[str, Any]] = {
    "completions_stream_interval4": {
        "prompt": "def main():", "max_tokens": 14, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
    "err_500_engine_dead": {"model": "tiny", "prompt": "hi", "max_tokens": 4},
    "err_engine_dies_midstream": {"prompt": "hi", "max_tokens": 64, "stream": True},
    "completions_stream_merged_by_sigstop": {
        "prompt": "def main():", "max_tokens": 60, "ignore_eos": True, "stream": True,
        "return_token_ids": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[tuple[str, ...], Simulated]]:
    """The servers started so far, by their further flags."""
    running: dict[tuple[str, ...], Simulated] = {}
    yield running
    for server in running.values():
        server.__exit__()


def server_for(name: str, running: dict[tuple[str, ...], Simulated]) -> Simulated:
    more = MORE_FLAGS.get(name, ())
    if more not in running:
        pace = () if "--profile" in more else FAST
        running[more] = Simulated(*FLAGS, *pace, *more).__enter__()
    return running[more]


def captures(shared: Path) -> list[str]:
    names = {path.stem for path in (shared / "wire").glob("*.txt")}
    return sorted(n for n in names - LEFT_OUT if not n.startswith("metrics_"))


def capture(shared: Path, name: str) -> httpx.Response:
    """What the real server answered, as the client library would give it."""
    head, _, body = (shared / "wire" / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    headers.pop("transfer-encoding", None)
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def ask(server: Simulated, shared: Path, name: str) -> httpx.Response:
    if name in GETS:
        return server.client.get(GETS[name])
    kept = shared / "wire" / f"{name}.request.json"
    body = json.dumps(REQUESTS[name]).encode() if name in REQUESTS else kept.read_bytes()
    headers = {"content-type": "application/json"}
    answer = server.client.post(path_of(name, body), content=body, headers=headers)
    if "cached" in name:  # the real server had seen that prompt before
        answer = server.client.post(path_of(name, body), content=body, headers=headers)
    return answer


def path_of(name: str, body: bytes) -> str:
    if name.startswith("tokenize"):
        return "/tokenize"
    return "/v1/completions" if b'"prompt"' in body else "/v1/chat/completions"


def shape(value: Any) -> Any:
    """A value without its figures and words: keys, types, what is null."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        kinds = [kind for kind, _ in itertools.groupby(map(shape, value))]
        return ["list", *(kinds if kinds and isinstance(kinds[0], dict) else [])]
    return {int: "number", float: "number"}.get(type(value), type(value).__name__)


def stream_shape(payloads: list[Any]) -> list[Any]:
    """The shapes of a stream's events in their order, runs of one shape as one."""
    shapes = (payload if payload == "[DONE]" else shape(payload) for payload in payloads)
    return [kind for kind, _ in itertools.groupby(shapes)]


def without_figures(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "0", text)


def check(name: str, shared: Path, running: dict[tuple[str, ...], Simulated]) -> None:
    real, ours = capture(shared, name), ask(server_for(name, running), shared, name)
    assert ours.status_code == real.status_code
    for header in ("content-type", "vary", "allow"):
        assert ours.headers.get(header) == real.headers.get(header), header
    assert ours.headers["server"] == "vllm-bench-simulator"
    if real.headers.get("content-type", "").startswith("text/event-stream"):
        assert ours.headers["transfer-encoding"] == "chunked"
        assert stream_shape(events(ours.text)) == stream_shape(events(real.text))
        check_order_of_keys(ours.text, real.text)
    elif real.status_code != 200:
        assert without_figures(ours.text) == without_figures(real.text)
    elif real.text:
        assert shape(ours.json()) == shape(real.json())
        assert list(ours.json()) == list(real.json())
    else:
        assert ours.text == ""


def check_order_of_keys(ours: str, real: str) -> None:
    """The first event's keys stand in vLLM's order: a client may match bytes."""
    first = [json.dumps(shape(events(text)[0])) for text in (ours, real)]
    assert first[0] == first[1]


@pytest.mark.process
def test_every_capture_of_a_real_server_is_answered_alike(
    shared: Path, servers: dict[tuple[str, ...], Simulated]
) -> None:
    wrong = {}
    for name in captures(shared):
        try:
            check(name, shared, servers)
        except AssertionError as e:
            wrong[name] = str(e)
    assert not wrong


@pytest.mark.process
def test_exact_lengths_give_the_token_counts_of_the_real_server(
    shared: Path, servers: dict[tuple[str, ...], Simulated]
) -> None:
    for name in ("chat_stream_usage", "completions_stream_ignore_eos", "completions_stream_eos"):
        real = events(capture(shared, name).text)
        ours = events(ask(server_for(name, servers), shared, name).text)
        assert ours[-2]["usage"]["completion_tokens"] == real[-2]["usage"]["completion_tokens"]
        assert len(ours) == len(real)


def test_the_comparison_sees_a_missing_key_a_wrong_order_and_an_event_too_many() -> None:
    event = {"id": "a", "choices": [{"index": 0, "text": "x"}]}
    assert shape(event) == shape({"id": "b", "choices": [{"index": 7, "text": ""}]})
    assert shape(event) != shape({"id": "a", "choices": [{"index": 0}]})
    assert shape(event) != shape({"id": None, "choices": [{"index": 0, "text": "x"}]})
    assert stream_shape([event, event, "[DONE]"]) == stream_shape([event, "[DONE]"])
    assert stream_shape([event, "[DONE]"]) != stream_shape(["[DONE]", event])
    assert stream_shape([event, {"error": {}}, "[DONE]"]) != stream_shape([event, "[DONE]"])


CLIENT_FLAGS = (
    "--exact", "--ttft-ms", "1", "--itl-ms", "0.1", "--model", "m", "--api-key", "key",
    "--reasoning", "--faults", "error_event:#1",
)  # fmt: skip
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        Simulated(*CLIENT_FLAGS) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIError, match="EngineCore"):  # the fault of the first request
            list(client.completions.create(model="m", prompt="x", max_tokens=9, stream=True))
        yield client


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["m"]


def test_a_chat_in_one_piece_and_in_pieces_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m", messages=HELLO, max_completion_tokens=90)
    stream = client.chat.completions.create(
        model="m",
        messages=HELLO,
        max_completion_tokens=90,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    message = whole.choices[0].message
    assert "".join(delta.content or "" for delta in deltas) == (message.content or "")
    thoughts = [getattr(delta, "reasoning", None) for delta in deltas]
    assert "".join(filter(None, thoughts)) == message.model_extra["reasoning"]
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage
    assert last.usage.completion_tokens_details.reasoning_tokens > 0


def test_completions_in_one_piece_and_in_pieces_say_the_same(client: openai.OpenAI) -> None:
    ask = {"model": "m", "prompt": "hello", "max_tokens": 30, "n": 2}
    whole = client.completions.create(**ask)
    texts = ["", ""]
    for chunk in client.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert len(set(texts)) == 2


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="m", prompt="x", temperature=-1)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


PARTS = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
# Bodies as other load generators send them.
BENCH_SERVE = {"prompt": "hello", "repetition_penalty": 1.0, "logprobs": None, "ignore_eos": True}
GUIDELLM = {"messages": PARTS, "stop": None, "ignore_eos": True, "max_completion_tokens": 7}
AIPERF = {"messages": HELLO, "max_completion_tokens": 7, "min_tokens": 7}


@pytest.mark.process
@pytest.mark.parametrize(
    ("path", "body", "options"),
    [
        ("/v1/completions", BENCH_SERVE, {"include_usage": True}),
        ("/v1/chat/completions", GUIDELLM, {"include_usage": True, "continuous_usage_stats": True}),
        ("/v1/chat/completions", AIPERF, {"include_usage": True}),
    ],
    ids=["vllm bench serve", "GuideLLM", "AIPerf"],
)
def test_other_load_generators_get_the_tokens_that_they_ask_for(
    servers: dict[tuple[str, ...], Simulated],
    path: str,
    body: dict[str, Any],
    options: dict[str, bool],
) -> None:
    got = server_for("", servers).stream(path, **{"max_tokens": 7} | body, stream_options=options)
    *tokens, usage, done = got
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 7)
    assert tokens[-1]["choices"][0]["finish_reason"] == "length"
    assert all(("usage" in event) == ("continuous_usage_stats" in options) for event in tokens)


BODY = json.dumps({"prompt": "hello", "max_tokens": 3, "stream": True, "ignore_eos": True}).encode()
REQUEST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "1") as server:
        yield int(server.url.rpartition(":")[2])


def talk(port: int, *writes: bytes) -> bytes:
    """Send the writes one by one and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in writes:
            sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_request_may_come_byte_by_byte(port: int) -> None:
    request = REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    got = talk(port, *(request[at : at + 1] for at in range(len(request))))
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_requests_in_one_packet_are_answered_one_after_the_other(port: int) -> None:
    got = talk(port, REQUEST + HEALTH + REQUEST + b"GET /v1/models " + LAST)
    streams = got.split(b"HTTP/1.1 200 OK")[1:]
    assert [b"[DONE]" in stream for stream in streams] == [True, False, True, False]
    assert got.count(b"[DONE]") == 2
    assert b'"object":"list"' in streams[-1]


def test_an_event_is_one_chunk_of_the_body(port: int) -> None:
    body = talk(port, REQUEST, b"GET /health " + LAST).partition(b"\r\n\r\n")[2]
    chunks = []
    while not body.startswith(b"0\r\n\r\n"):
        size, _, rest = body.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]
    assert len(chunks) == 4
    assert all(c.startswith(b"data: ") and c.endswith(b"\n\n") for c in chunks)


@pytest.mark.parametrize(
    ("head", "last"),
    [(b"connection: close", True), (b"connection: keep-alive", False), (b"x-nothing: 1", False)],
)
def test_the_connection_stays_open_unless_the_client_wants_it_closed(
    port: int, head: bytes, last: bool
) -> None:
    request = b"GET /health HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % head
    got = talk(port, request, *(() if last else (b"GET /version " + LAST,)))
    assert got.count(b"HTTP/1.1 200 OK") == (1 if last else 2)


def test_what_is_no_http_is_a_bad_request(port: int) -> None:
    got = talk(port, b"nonsense\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 Bad Request")
    assert got.endswith(b"Invalid HTTP request received.")
