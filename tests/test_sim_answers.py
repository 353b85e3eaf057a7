"""Answers without a socket: what they keep, and that they let go of it."""

from __future__ import annotations

import gc
import json
import time
import weakref
from typing import Any

import pytest
from sim.answers import Answer, Choice, House
from sim.api import Api
from sim.engine.engine import EngineState
from sim.faults import read_faults
from sim.metrics import Metrics
from sim.truth import TruthLog
from sim.wire.connection import HttpRequest
from sim.wire.settings import Settings


class ByHand:
    """A pacing that makes tokens when it is told to."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.stopped: list[Choice] = []

    def start(self, choice: Choice) -> None:
        self.choices.append(choice)

    def stop(self, choice: Choice) -> None:
        self.stopped.append(choice)

    def state(self) -> EngineState:
        return EngineState()

    def reset_prefix_cache(self) -> bool:
        return True


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


def ask(faults: str = "", **body: Any) -> tuple[ByHand, Wire, Metrics]:
    settings = Settings("m", ("m",))
    pacing, wire, metrics = ByHand(), Wire(), Metrics(settings)
    api = Api(House(settings, pacing, TruthLog(None), metrics, read_faults(faults)))
    text = json.dumps({"prompt": "hi", "max_tokens": 6, "ignore_eos": True, **body}).encode()
    request = HttpRequest("POST", "/v1/completions", {}, text, True, time.perf_counter_ns())
    api.handle(request, wire)  # type: ignore[arg-type]
    return pacing, wire, metrics


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
        pacing, wire, metrics = ask(faults, stream=stream)
        answer = weakref.ref(pacing.choices[0].answer)
        for _ in range(2 if leaves else 6):
            if wire.listener is not None:
                pacing.choices[0].token()
        if wire.listener is not None:
            wire.listener.client_gone()
        wire.listener = None
        pacing.choices.clear()
        pacing.stopped.clear()
        assert metrics.load == 0
        assert answer() is None
    finally:
        gc.enable()


def test_tokens_wait_while_the_client_does_not_read_and_leave_in_one_event() -> None:
    pacing, wire, _ = ask(stream=True)
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
    assert choice.answer.sent_tokens == [1, 3]


def test_a_client_that_left_frees_what_the_engine_holds_for_it() -> None:
    pacing, wire, metrics = ask(stream=True, n=2)
    pacing.choices[0].token()
    assert wire.listener is not None
    wire.listener.client_gone()
    assert pacing.stopped == pacing.choices
    assert 'finished_reason="abort",model_name="m"} 2.0' in metrics.text().decode()


def test_metrics_are_up_to_date_in_mid_stream() -> None:
    pacing, _, metrics = ask(stream=True)
    for made in range(1, 4):
        pacing.choices[0].token()
        text = metrics.text().decode()
        assert f'vllm:generation_tokens_total{{engine="0",model_name="m"}} {made}.0' in text
        assert "inter_token_latency_seconds_count" in text
        assert 'vllm:num_requests_running{engine="0",model_name="m"} 1.0' in text
