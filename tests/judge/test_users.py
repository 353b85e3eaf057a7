"""What users saw, from a truth file alone: the steady window, figures, those who waited in vain."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.planted.users import (
    LoadAsked,
    Served,
    percentile,
    read_served,
    steady,
    true_figures,
)

S = 1_000_000_000


def line(index: int, received_s: float, stamps_s: list[float], **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"run-{index}",
        "t_received_ns": round(received_s * S),
        "t_sent_ns": [round(at * S) for at in stamps_s],
        "tokens": [1] * len(stamps_s),
        "prompt_tokens": 10 + index,
        "finish_reason": "length",
        **more,
    }


def served(tmp_path: Path, *lines: dict[str, Any], requests: int = 100) -> list[Served]:
    path = tmp_path / "truth.jsonl"
    path.write_text("".join(f"{json.dumps(found)}\n" for found in lines))
    return read_served([path], "run", requests)


def of_stream(stream: int, rounds: int, offset_s: float) -> list[dict[str, Any]]:
    """A stream whose requests take 1 s: the first token after 0.2 s, then one every 0.4 s."""
    starts = [offset_s + k for k in range(rounds)]
    return [
        line(stream * rounds + k, at, [at + 0.2, at + 0.6, at + 1.0]) for k, at in enumerate(starts)
    ]


def test_only_measured_requests_of_the_run_are_read(tmp_path: Path) -> None:
    other = [line(0, 0.5, [1.0], request_id="abcdef"), line(1, 1, [2.0], request_id="other-1")]
    found = served(tmp_path, *other, line(3, 9, [10.0]), line(1, 2, [3.0]), requests=3)
    assert [one.received_s for one in found] == [2.0]


def test_times_are_from_the_read_request_to_the_written_token(tmp_path: Path) -> None:
    (one,) = served(tmp_path, line(0, 1.0, [1.5, 2.0, 3.0], tokens=[2, 1, 2]))
    assert (one.ttft_s, one.latency_s, one.tpot_s) == pytest.approx((0.5, 2.0, 1.5 / 4))


def test_a_user_without_an_answer_waits_for_ever(tmp_path: Path) -> None:
    refused, cut = served(
        tmp_path, line(0, 1.0, [], finish_reason=None), line(1, 1.0, [2.0], finish_reason=None)
    )
    for one in (refused, cut):
        assert {one.ttft_s, one.latency_s, one.tpot_s} == {math.inf}


def test_a_closed_loop_is_steady_a_latency_after_it_was_full(tmp_path: Path) -> None:
    found = served(tmp_path, *of_stream(0, 10, 0.0), *of_stream(1, 10, 0.5))
    load = LoadAsked(2, 0.0, 20)
    start_s, end_s = steady(found, load)
    assert start_s == pytest.approx(0.5 + 1.0)
    assert end_s == pytest.approx(10.0)  # when the first stream found no more work
    figures = true_figures(found, load)
    assert figures["TTFT p50"] == pytest.approx(200)
    assert figures["latency p50"] == pytest.approx(1000)
    assert figures["TPOT p50"] == pytest.approx(400)
    assert figures["tokens/s"] == pytest.approx(6, rel=0.05)


def test_an_open_loop_is_steady_a_latency_after_its_ramp(tmp_path: Path) -> None:
    found = served(tmp_path, *(line(k, k, [k + 0.5, k + 2.0]) for k in range(20)))
    assert steady(found, LoadAsked(None, 3.0, 20)) == pytest.approx((5.0, 19.0))
    assert steady(found, LoadAsked(None, 30.0, 20)) == pytest.approx((0.0, 21.0))  # never: all


def test_who_never_reached_the_server_counts_as_one_who_waits_for_ever(tmp_path: Path) -> None:
    found = served(tmp_path, *(line(k, k, [k + 0.5]) for k in range(18)))
    assert true_figures(found, LoadAsked(None, 0.0, 18))["TTFT p95"] == pytest.approx(500)
    assert true_figures(found, LoadAsked(None, 0.0, 20))["TTFT p95"] == math.inf


def test_percentiles_are_numpys_and_may_be_infinite() -> None:
    assert percentile([4.0, 1.0, 2.0], 50) == 2.0
    assert percentile([0.0, 10.0], 95) == pytest.approx(9.5)
    assert percentile([1.0, math.inf, math.inf], 50) == math.inf
    assert percentile([], 50) is None
