"""The simulator's answers against those of a real vLLM, request by request."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.simulated import Simulated, events

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
    "completions_stream_interval4": ("--stream-interval", "4", "--enable-force-include-usage"),
    "err_401": ("--api-key", "secret"),
    "err_500_engine_dead": ("--faults", "http_500"),
    "err_engine_dies_midstream": ("--faults", "error_event@40"),
}
GETS = {
    "health": "/health",
    "load": "/load",
    "models": "/v1/models",
    "version": "/version",
    "err_404_path": "/v1/nothing",
    "err_405_get": "/v1/completions",
}
# Captures whose request wasn't kept; these give the same answers.
REQUESTS: dict[str, dict[str, Any]] = {
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
    return sorted(name for name in names if not name.startswith("metrics_"))


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
    body = kept.read_bytes() if kept.exists() else json.dumps(REQUESTS[name]).encode()
    headers = {"content-type": "application/json"}
    answer = server.client.post(path_of(name, body), content=body, headers=headers)
    if "cached" in name:  # the real server had seen that prompt before
        answer = server.client.post(path_of(name, body), content=body, headers=headers)
    return answer


def path_of(name: str, body: bytes) -> str:
    if name.startswith(("tokenize", "detokenize")):
        return "/" + name.partition("_")[0]
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
