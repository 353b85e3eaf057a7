"""What three machines leave of a run passes all that one machine's does, and is dealt right."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_bench.summary.summary import facts_of
from vllm_bench.verdict.verdict import judge

from tests.end_to_end.golden import EXACT, Evidence, check, measured
from tests.machines.running import over
from tests.sim.simulated import Simulated

pytestmark = pytest.mark.process

STAY = ("--keep-rows-remote",)
TALK = {"conversations": {"turns": 4, "think_time_s": 0.01}, "concurrencies": [6]}


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        pytest.param((), {"concurrencies": [7], "num_requests": 42}, id="seven streams"),
        pytest.param(STAY, {"concurrencies": [5], "num_requests": 40}, id="rows stay"),
        pytest.param((), {**TALK, "num_requests": 48}, id="conversations"),
    ],
)
def test_what_three_machines_leave_is_held_like_what_one_leaves(
    tmp_path: Path, words: tuple[str, ...], settings: dict[str, Any]
) -> None:
    with Simulated(*EXACT) as server:
        evidence = measured(tmp_path, server, *over(3), *words, **settings)
    assert len(evidence.run.frame) == settings["num_requests"]
    check(evidence)
    check_dealt(evidence)
    assert evidence.run.problems == []
    found = {one.code for one in judge(facts_of(evidence.run)).findings}
    assert not found & {"machine_lost", "interrupted", "ledger_mismatch", "ledger_unread"}
    assert "machine_twice" in found

    machine = evidence.run.frame["machine"]
    machine[0] = machine[machine != machine[0]][0]  # it can fail: one row is another machine's
    with pytest.raises(AssertionError):
        check_dealt(evidence)


def check_dealt(evidence: Evidence) -> None:
    """Raise AssertionError where the plan isn't what was sent, each part of it by its machine."""
    frame, info = evidence.run.frame, evidence.run.info
    assert info is not None
    machines = info.client_health["machines"]
    rows = Counter(frame["machine"])
    assert rows == {one["machine"]: one["rows"] for one in machines}
    assert len(rows) == 3
    sent = zip(frame["request_index"], frame["prompt_id"], frame["max_tokens"], strict=True)
    assert sorted(sent) == _planned(evidence.run.path)
    owner = {int(stream): name for stream, name in zip(*_of(frame, "stream_index"), strict=True)}
    streams = info.concurrency
    assert sorted(owner) == list(range(streams or 0))
    assert list(frame["machine"]) == [owner[int(stream)] for stream in frame["stream_index"]]
    if not frame.has("conversation_id").any():  # of which a play is dealt, not a request
        check_order(evidence, owner)


def check_order(evidence: Evidence, owner: dict[int, str]) -> None:
    """Request i is of the machine of stream i mod C, which takes its own in their order."""
    frame = evidence.run.frame
    index, machine = _of(frame, "request_index")
    assert [owner[int(i) % len(owner)] for i in index] == list(machine)
    by_time = np.argsort(frame["t_scheduled_s"], kind="stable")
    for name in set(machine):
        mine = index[by_time][machine[by_time] == name].astype(int)
        late = np.maximum.accumulate(mine) - mine
        # Two streams that come free at one moment may be told in either order.
        assert (late <= len(owner)).all(), f"{name} sent {mine[late.argmax()]} out of its order"


def _of(frame: Any, column: str) -> tuple[Any, Any]:
    return frame[column], frame["machine"]


def _planned(rows: Path) -> list[tuple[int, str, int]]:
    with (rows.parent / "plans" / rows.name).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [(int(r["request_index"]), r["prompt_id"], int(r["max_tokens"])) for r in found]
