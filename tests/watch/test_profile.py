"""vLLM's profiler: asked once, from the middle of a run on, and told of what went wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from vllm_bench.errors import BenchError
from vllm_bench.watch.profile import Profile
from vllm_bench.watch.samplers import Samplers, Wanted

from tests.support.beside.waiting import LIMIT_S
from tests.support.made_runs import made_info, made_record, summed


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
    assert server.started.wait(LIMIT_S)
    profile.end()
    profile.wait()
    facts = profile.facts(began_ns)
    assert server.orders == ["start", "stop"]
    assert (facts["seconds"], facts["problem"]) == (3600.0, None)
    assert 0 <= facts["asked_s"] <= facts["from_s"] <= facts["to_s"] <= facts["written_s"]


def test_a_run_that_ends_early_has_none() -> None:
    server = Server()
    profile = Profile(server.order, 1.0)
    profile.look(0.2)
    profile.end()
    profile.wait()
    profile.look(0.9)
    assert server.orders == []
    assert profile.facts(0)["problem"] is not None


@pytest.mark.parametrize("refused", ["start", "stop"])
def test_what_the_server_refuses_is_told_and_it_is_stopped_in_any_case(refused: str) -> None:
    # A server that was too busy to say in time that it began profiles itself all the same.
    server = Server(refused)
    profile = Profile(server.order, 0.0)
    profile.look(1.0)
    profile.end()
    profile.wait()
    facts = profile.facts(0)
    assert f"can't {refused}" in str(facts["problem"])
    assert ("from_s" in facts) == (refused == "stop")
    assert ("written_s" in facts) == (refused == "start")
    assert server.orders == ["start", "stop"]


def samplers_with(profile: Profile, folder: Path, said: list[str]) -> Samplers:
    wanted = Wanted(
        **{"base_url": "", "gpus": False, "gpu_hz": 1.0, "gpu_indexes": None},
        **{"server_is_here": True, "profile": profile},
    )
    return Samplers(wanted, folder, "run", said.append)


def test_who_cant_wait_for_the_files_has_the_run_at_once(tmp_path: Path) -> None:
    obeyed, written, orders = threading.Event(), threading.Event(), list[str]()

    def order(what: str) -> None:
        orders.append(what)
        if what == "stop":
            obeyed.set()
            assert written.wait(LIMIT_S)

    said = list[str]()
    samplers = samplers_with(Profile(order, 3600.0), tmp_path, said)
    samplers.look(0.5)
    waiting = threading.Thread(target=samplers.stop, daemon=True)
    waiting.start()
    assert obeyed.wait(LIMIT_S)  # told to stop by the end of the run, not after its 3600 s
    facts = samplers.stop()["profile"]  # as after a second Ctrl-C: it returns
    assert "written_s" not in facts
    assert facts["problem"]
    written.set()
    waiting.join(LIMIT_S)
    assert samplers.stop()["profile"]["problem"] is None
    assert orders == ["start", "stop"]
    assert any("Ctrl-C" in line for line in said)


def test_a_profile_that_came_to_nothing_is_told_on_the_screen(tmp_path: Path) -> None:
    said = list[str]()
    samplers = samplers_with(Profile(Server("stop").order, 0.0), tmp_path, said)
    samplers.look(1.0)
    samplers.stop()
    assert any("can't stop" in line for line in said)


@pytest.mark.parametrize(
    ("observed", "codes"),
    [
        ({"from_s": 3.0, "to_s": 5.0, "problem": None}, 1),  # a file of before
        ({"asked_s": 3.0, "from_s": 3.1, "to_s": 5.0, "written_s": 17.0, "problem": None}, 1),
        ({"asked_s": 3.0, "problem": "no answer"}, 1),  # perhaps it did
        ({"problem": "the run ended before its middle"}, 0),
        ({"problem": None}, 0),
    ],
)
def test_a_run_with_a_profile_is_not_for_figures(
    tmp_path: Path, observed: dict[str, object], codes: int
) -> None:
    records = [made_record(i) for i in range(40)]
    info = made_info(records, observed={"profile": {"seconds": 2.0, **observed}})
    found = summed(tmp_path, records, info)
    assert [f.code for f in found.verdict.doubts].count("profiled") == codes
