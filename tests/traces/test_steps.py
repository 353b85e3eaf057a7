"""A trace whose stamps were taken every few seconds: requests come within their steps."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from vllm_bench.traces.trace import Trace, read_trace


def mooncake(folder: Path, times_ms: list[int]) -> Trace:
    path = folder / "trace"
    rows = (
        {"timestamp": t, "input_length": n + 1, "output_length": 3} for n, t in enumerate(times_ms)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_trace(path)


def stepped(steps: int, each: int, step_ms: int = 3000) -> list[int]:
    return [step_ms * n for n in range(steps) for _ in range(each)]


def test_requests_of_a_stamp_come_within_its_step(tmp_path: Path) -> None:
    found = mooncake(tmp_path, stepped(40, 10))
    times = [request.at_s for request in found.requests]
    assert times == sorted(times)
    assert max(Counter(times).values()) == 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) < 2  # and not 3, with ten at once
    assert "40 stamps for 400 requests" in found.notes[0]


def test_each_request_stays_in_its_step_and_keeps_its_length(tmp_path: Path) -> None:
    found = mooncake(tmp_path, stepped(40, 10))
    first = {request.prompt_tokens: request.at_s for request in found.requests}
    assert len(first) == 400
    zero = min(first[n] for n in range(1, 11))
    for number in range(1, 401):
        step = (number - 1) // 10
        assert 3 * step - 3 <= first[number] - zero < 3 * step + 3


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    assert mooncake(tmp_path, stepped(30, 4)) == mooncake(tmp_path, stepped(30, 4))


def test_after_a_pause_a_step_is_as_long_as_usual(tmp_path: Path) -> None:
    times = [*stepped(20, 5), *(600_000 + t for t in stepped(20, 5))]
    found = mooncake(tmp_path, times)
    before = max(request.at_s for request in found.requests if (request.prompt_tokens or 0) <= 100)
    assert before < 63


@pytest.mark.parametrize(
    "times",
    [
        stepped(19, 10),  # too few to tell
        stepped(40, 1),
        [40 * n for n in range(400)],
        stepped(40, 10, step_ms=500),
    ],
)
def test_other_stamps_are_left_as_they_are(tmp_path: Path, times: list[int]) -> None:
    found = mooncake(tmp_path, times)
    assert [request.at_s for request in found.requests] == [t / 1000 for t in times]
    assert not found.notes
