"""The client's stamps against what the server wrote down, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.summary.summary import summarize
from vllm_bench.summary.truth import client_errors, read_truth

from tests.end_to_end.golden import (
    EXACT,
    ROUNDED_MS,
    check,
    check_causes,
    check_nothing_is_missing,
    check_sums,
    measured,
    pairs,
)
from tests.sim.simulated import Simulated

pytestmark = pytest.mark.process

NINE_ON_THREE = {"concurrencies": [9], "num_requests": 45}
IDS = {"extra_body": {"return_token_ids": True}}
FEW = {"num_requests": 16}


@pytest.mark.parametrize("clock", ["kernel", "process"])
@pytest.mark.parametrize(
    ("server_flags", "words", "settings"),
    [
        pytest.param((), ("--workers", "1"), {}, id="eight streams, one process"),
        pytest.param((), ("--workers", "3"), NINE_ON_THREE, id="nine streams, three processes"),
        pytest.param(("--stream-interval", "4"), (), {}, id="four tokens a chunk"),
        pytest.param(("--stream-interval", "4"), (), IDS, id="four tokens a chunk, and their ids"),
        pytest.param((), (), {"extra_body": {"n": 2}}, id="two choices"),
        pytest.param((), (), {"endpoint": "completions"}, id="completions"),
        pytest.param(("--reasoning",), (), {"max_new_tokens": 60, **FEW}, id="reasoning"),
        pytest.param(("--faults", "split_bytes"), (), FEW, id="every byte alone"),
        pytest.param(("--faults", "split_utf8"), (), FEW, id="characters cut"),
        pytest.param(("--faults", "merge=5"), (), FEW, id="five events a write"),
        pytest.param(("--faults", "crlf:0.5, comments"), (), FEW, id="CRLF or comments"),
    ],
)
def test_every_token_is_seen_after_it_was_sent_in_its_order_and_counted_once(
    tmp_path: Path,
    server_flags: tuple[str, ...],
    words: tuple[str, ...],
    settings: dict[str, Any],
    clock: str,
) -> None:
    with Simulated(*EXACT, *server_flags) as server:
        evidence = measured(tmp_path, server, *words, clock=clock, **settings)
    assert len(evidence.run.frame) == settings.get("num_requests", 32)
    check(evidence)


def test_the_error_that_calibrate_shows_is_of_these_very_stamps(tmp_path: Path) -> None:
    with Simulated(*EXACT) as server:
        evidence = measured(tmp_path, server)
        truth = read_truth(server.truth_path)
    errors = client_errors(evidence.run, evidence.tokens, truth)
    found = list(pairs(evidence))
    late = np.concatenate([p.seen.stamps_ns - p.sent_ns for p in found]) / 1e6
    assert errors.tokens == late.size == 32 * 24
    assert (errors.stamp_ms.min, errors.stamp_ms.max) == (late.min(), late.max())
    # A TTFT's error is the way there and the way back: what the server took is in neither.
    both = [
        (p.true["t_received_ns"] - p.seen.sent_ns) + (p.seen.stamps_ns[0] - p.sent_ns[0])
        for p in found
    ]
    assert errors.ttft_error_ms.max == pytest.approx(max(both) / 1e6)
    assert errors.ttft_error_ms.min == pytest.approx(min(both) / 1e6)


@pytest.mark.parametrize(
    ("parser", "key", "endpoint"),
    [
        ("qwen3", "reasoning", "chat"),
        ("deepseek_r1", "reasoning_content", "chat"),  # whose count is 0
        ("qwen3", "reasoning", "responses"),
    ],
)
def test_thoughts_and_answers_are_those_that_the_server_made(
    tmp_path: Path, parser: str, key: str, endpoint: str
) -> None:
    """Some think for longer than a reply may be: they are no failures, and have no answer."""
    flags = ("--reasoning-parser", parser, "--reasoning-key", key, "--reasoning-tokens", "4-30")
    with Simulated(*EXACT, *flags) as server:
        evidence = measured(tmp_path, server, endpoint=endpoint, **FEW)
    check_nothing_is_missing(evidence)
    check_sums(evidence)
    answered = []
    for pair in pairs(evidence):
        check_causes(pair)
        row, thought = pair.row, pair.true["reasoning_tokens"]
        assert (row.thoughts, row.thinking_tokens) == ("apart", thought)
        of_answer = pair.seen.stamps_ns[np.cumsum(pair.sent_tokens) > thought]
        answered.append(of_answer.size > 0)
        assert (row.visible_events > 0) == answered[-1]
        if answered[-1]:
            since_ms = (of_answer[0] - pair.seen.stamps_ns[0]) / 1e6
            assert abs(row.ttfa_ms - row.ttft_ms - since_ms) <= ROUNDED_MS
        else:
            assert np.isnan(row.ttfa_ms)
    assert {True, False} <= {*answered}
    figures = summarize(evidence.run).thinking
    assert figures is not None
    if figures.of == len(answered):  # there is no window, so that all count
        made = sum(line["completion_tokens"] for line in evidence.truth)
        thought = sum(line["reasoning_tokens"] for line in evidence.truth)
        assert figures.unanswered == answered.count(False)
        assert figures.token_share == pytest.approx(thought / made)
        assert (figures.unknown, figures.timed) == (0, answered.count(True))
