"""vLLM's profiler: asked once, from the middle of a run on, and told of what went wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from vllm_bench.errors import BenchError
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import summarize
from vllm_bench.watch.profile import Profile

from tests.support.made_runs import made_info, made_record, write_run


class Server:
    """Obeys, or says why not."""

    def __init__(self, refuses: str = "") -> None:
        self.orders: list[str] = []
        self.started = threading.Event()
        self._refuses = refuses

    def order(self, what: str) -> None:
        self.orders.append(what)
        self.started.set()
        if what == self._refuses:
            raise BenchError(f"can't {what}")


def test_it_is_asked_once_from_the_middle_on_and_ended_with_the_run() -> None:
    server = Server()
    profile, began_ns = Profile(server.order, 3600.0), time.perf_counter_ns()
    for share in (0.0, 0.3, 0.5, 0.9):
        assert bool(server.orders) <= (share > 1 / 3)
        profile.look(share)
    assert server.started.wait(10)
    profile.stop()
    facts = profile.facts(began_ns)
    assert server.orders == ["start", "stop"]
    assert (facts["seconds"], facts["problem"]) == (3600.0, None)
    assert 0 <= facts["from_s"] <= facts["to_s"]


def test_a_run_that_ends_early_has_none() -> None:
    server = Server()
    profile = Profile(server.order, 1.0)
    profile.look(0.2)
    profile.stop()
    profile.look(0.9)
    assert server.orders == []
    assert profile.facts(0)["problem"] is not None


@pytest.mark.parametrize("refused", ["start", "stop"])
def test_what_the_server_refuses_is_told(refused: str) -> None:
    server = Server(refused)
    profile = Profile(server.order, 0.0)
    profile.look(1.0)
    profile.stop()
    assert f"can't {refused}" in str(profile.facts(0)["problem"])
    assert ("from_s" in profile.facts(0)) == (refused == "stop")


@pytest.mark.parametrize(("observed", "codes"), [({"from_s": 3.0, "to_s": 5.0}, 1), ({}, 0)])
def test_a_run_with_a_profile_is_not_for_figures(
    tmp_path: Path, observed: dict[str, float], codes: int
) -> None:
    records = [made_record(i) for i in range(40)]
    info = made_info(records, observed={"profile": {"seconds": 2.0, **observed, "problem": None}})
    found = summarize(load_run(write_run(tmp_path, records, info)))
    assert [f.code for f in found.verdict.doubts].count("profiled") == codes
