"""Sums that the simulator works out, and how load makes them wrong where it is told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.answers import Server
from sim.api import Api
from sim.engine.engine import EngineState
from sim.faults import read_faults
from sim.metrics import Metrics
from sim.model.sums import worked_out
from sim.truth import TruthLog
from sim.wire.connection import HttpRequest
from sim.wire.settings import Settings

from tests.sim.simulated import Simulated
from tests.sim.test_answers import ByHand, Wire

END = "\nEnd with a line `#### <number>`."
ASKED = {"messages": [{"role": "user", "content": f"Compute 7 * 13 - 4.{END}"}], "max_tokens": 64}


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ("7 * 13 - 4", 87),
        ("10 - 2 - 3", 5),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 * (3 - 5)", -4),
        ("((7))", 7),
        ("bolt", 41),
        ("bolt + pin * 2", 55),
    ],
)
def test_a_sum_is_worked_out(asked: str, value: int) -> None:
    said = worked_out(f"bolt: 41\npin: 7\nCompute {asked}.{END}")
    assert said == f"{asked} = {value}\n#### {value}"


@pytest.mark.parametrize(
    "prompt",
    [
        "Compute 7 * 13.",  # nobody asked for a number on a line
        f"What is 7 * 13?{END}",
        f"Compute nail.{END}",
        *(f"Compute {bad}.{END}" for bad in ("7 *", "7 13", "(7", "7)", "7 / 2", "* 7", "1.5")),
    ],
)
def test_anything_else_is_not(prompt: str) -> None:
    assert worked_out(prompt) is None


@given(st.text("0123456789+-*() abc.\n", max_size=40))
def test_any_text_may_be_asked(text: str) -> None:
    worked_out(f"Compute {text}.{END}")


def said(server: Simulated, **more: Any) -> str:
    answer = server.client.post("/v1/chat/completions", json={**ASKED, **more}).json()
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.process
def test_an_answer_ends_by_itself_or_is_cut() -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "0.2") as server:
        whole = server.client.post("/v1/chat/completions", json=ASKED).json()
        assert whole["choices"][0]["message"]["content"] == "7 * 13 - 4 = 87\n#### 87"
        assert whole["choices"][0]["finish_reason"] == "stop"
        text = {"prompt": ASKED["messages"][0]["content"], "max_tokens": 64}
        bare = server.client.post("/v1/completions", json=text).json()
        assert bare["choices"][0]["text"].endswith("#### 87")
        cut = server.client.post("/v1/chat/completions", json={**ASKED, "max_tokens": 5}).json()
        assert cut["choices"][0]["finish_reason"] == "length"
        assert "####" not in cut["choices"][0]["message"]["content"]
        assert "####" not in said(server, ignore_eos=True)  # a length was asked for, no answer


@pytest.mark.parametrize(
    ("fault", "alone", "under_load"),
    [
        ("garbled=3", "7 * 13 - 4 = 87\n#### 87", "8 * 24 - 5 = 98\n#### 98"),
        ("reworded=3", "7 * 13 - 4 = 87\n#### 87", "so: 7 * 13 - 4 = 87\n#### 87"),
    ],
)
def test_answers_change_above_so_many_in_flight(fault: str, alone: str, under_load: str) -> None:
    settings, pacing = Settings("m", ("m",)), ByHand()
    metrics = Metrics(settings, EngineState)
    api = Api(Server(settings, pacing, TruthLog(None), metrics, read_faults(fault)))
    request = HttpRequest("POST", "/v1/chat/completions", {}, json.dumps(ASKED).encode(), True, 0)
    wires = [Wire() for _ in range(5)]
    for wire in wires:
        api.handle(request, wire)  # type: ignore[arg-type]
    for choice in pacing.choices:
        while not choice.is_complete:
            choice.token()
    answers = [json.loads(wire.written[-1])["choices"][0]["message"] for wire in wires]
    assert [answer["content"] for answer in answers] == [alone] * 3 + [under_load] * 2
