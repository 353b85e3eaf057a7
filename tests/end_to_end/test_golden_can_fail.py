"""Proof that the golden tests can fail: a lie that is planted in a run's evidence is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.records.find_runs import Run
from vllm_bench.records.request_record import RequestRecord

from tests.end_to_end.golden import EXACT, Evidence, check, measured
from tests.end_to_end.planted import MS, NAMES, PLANTED
from tests.sim.simulated import Simulated
from tests.support.made_runs import frame_of, made_info, made_record

pytestmark = pytest.mark.process

# A run of two streams made up by hand. Each request: sent, at the server 40 us later, its tokens
# 10 ms after that and then one each 2 ms, each of them seen 50 us after it was sent. The last two
# are sent together and read in one.
TOKENS, WAY_NS, BACK_NS = 6, 40_000, 50_000
SENT_NS = [0, 1 * MS, 30 * MS, 31 * MS]


def made(folder: Path) -> Evidence:
    """Return the made-up run, in which every rule holds."""
    after = np.array([10, 12, 14, 16, 18, 18]) * MS + WAY_NS
    truth, records, reads = [], [], []
    for index, sent_ns in enumerate(SENT_NS):
        line = {"request_id": f"made-{index}", "t_received_ns": sent_ns + WAY_NS}
        line |= {"t_sent_ns": (after + sent_ns).tolist(), "tokens": [1] * TOKENS}
        truth.append({**line, "prompt_tokens": 250, "completion_tokens": TOKENS})
        records.append(made_row(index, sent_ns, (after + BACK_NS) / 1e6))
        reads.append(after[:-1] + BACK_NS + sent_ns)
    run_info = made_info(records)
    run = Run(folder, frame_of(folder, records), run_info, [], "made", "made")
    tokens = {
        "request_index": np.arange(4, dtype=np.int32),
        "first_read": np.arange(5) * 5,
        "t_ns": np.concatenate(reads),
        "events": np.array([1, 1, 1, 1, 2] * 4, dtype=np.uint16),
        "tokens": np.array([1, 1, 1, 1, 2] * 4, dtype=np.uint16),
    }
    return Evidence(run, tokens, truth)


def made_row(index: int, sent_ns: int, since_ms: Any) -> RequestRecord:
    """Return the row of a request whose tokens came so many ms after it was sent."""
    first, last = since_ms[0], since_ms[-1]
    return made_record(
        index,
        stream_index=index % 2,
        concurrency=2,
        t_sent_s=sent_ns / 1e9,
        send_lag_ms=0.0,
        ttft_ms=first,
        latency_ms=last,
        tpot_ms=(last - first) / (TOKENS - 1),
        max_gap_ms=2.0,
        completion_tokens=TOKENS,
        token_events=TOKENS,
        token_reads=TOKENS - 1,
    )


@pytest.fixture(scope="module", params=["kernel", "process"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A real run on each clock."""
    folder, asked = tmp_path_factory.mktemp("real"), {"concurrencies": [4], "num_requests": 16}
    with Simulated(*EXACT) as server:
        return measured(folder, server, "--workers", "2", clock=request.param, **asked)


def copied(evidence: Evidence) -> Evidence:
    run = copy.deepcopy(evidence.run)
    return Evidence(run, copy.deepcopy(evidence.tokens), copy.deepcopy(evidence.truth))


def test_a_made_up_run_in_which_every_rule_holds_passes(tmp_path: Path) -> None:
    check(made(tmp_path))


@pytest.mark.parametrize(("plant", "words"), PLANTED, ids=NAMES)
def test_a_lie_planted_in_a_made_up_run_is_found(
    tmp_path: Path, plant: Callable[[Evidence], None], words: str
) -> None:
    evidence = made(tmp_path)
    plant(evidence)
    with pytest.raises(AssertionError, match=words):
        check(evidence)


@pytest.mark.parametrize(("plant", "words"), PLANTED, ids=NAMES)
def test_a_lie_planted_in_a_real_run_is_found(
    real: Evidence, plant: Callable[[Evidence], None], words: str
) -> None:
    evidence = copied(real)
    check(evidence)
    plant(evidence)
    with pytest.raises(AssertionError, match=words):
        check(evidence)
