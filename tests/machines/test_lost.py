"""Who dies or freezes while several machines send: what is kept, what is told, who goes on.

Real runs against the simulator, whose own record says when it got which request, and finished it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import RunInfo, read_run_info

from tests.machines.running import (
    HASTY,
    ONE,
    ROOT,
    foremen,
    load,
    over,
    said,
    started,
)
from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.frames import read_frame
from tools.hostile.processes import NS, Pulse, lives, senders_of

pytestmark = pytest.mark.process

REQUESTS, STREAMS = 480, 8  # which take some seconds: the blow is to fall among them
BLOW = 80  # replies that the server has finished by then: more than a second
SIDE_BY_SIDE = 2
CLOSED = ("--concurrency", STREAMS, "--num-requests", REQUESTS)
OPEN = ("--request-rate", 60, "--num-requests", REQUESTS)
LOOKING = f"env PYTHONPATH={ROOT / 'bench'}:{ROOT} {ONE.split()[0]} {HASTY} sender.py"


@dataclass(frozen=True)
class Victims:
    """The processes of a load over several machines."""

    head: int
    foremen: list[int]  # in the order of the machines
    sending: list[list[int]]  # of each foreman


@dataclass(frozen=True)
class Blow:
    """Who is struck, and how."""

    strikes: Callable[[Victims], list[tuple[int, signal.Signals]]]
    lost: tuple[int, ...] = ()  # machines
    machines: int = 2
    words: tuple[object, ...] = CLOSED
    workers: int = 1
    hasty: bool = False


@dataclass
class Fate:
    """What became of a load."""

    code: int
    text: str
    struck_ns: int
    left: list[int]  # processes that didn't end
    truth: list[dict[str, Any]]
    results: Path

    @property
    def info(self) -> RunInfo:
        """What its JSON says."""
        (path,) = self.results.glob("*.json")
        return read_run_info(path)

    @property
    def rows(self) -> Any:
        """Its rows."""
        (path,) = self.results.glob("*.csv")
        return read_frame(path)

    def workers_lost(self, machine: str) -> int:
        """How many sending processes of a machine were."""
        assert self.info.client_health is not None
        workers = self.info.client_health["workers"]
        return sum(worker["lost"] for worker in workers if worker["machine"] == machine)


def one_by_one(v: Victims) -> list[tuple[int, signal.Signals]]:
    """Strike each of four machines in its own way."""
    return [
        (v.foremen[0], signal.SIGKILL),
        (v.foremen[1], signal.SIGTERM),
        *((pid, signal.SIGKILL) for pid in v.sending[2]),
        (v.sending[HALF_DEAD][0], signal.SIGKILL),
    ]


HALF_DEAD = 3
BLOWS = {
    "one by one": Blow(one_by_one, (0, 1, 2), machines=4, words=OPEN, workers=2),
    "foreman frozen": Blow(lambda v: [(v.foremen[0], signal.SIGSTOP)], (0,), hasty=True),
    "head": Blow(lambda v: [(v.head, signal.SIGKILL)]),
    "head asked to end": Blow(lambda v: [(v.head, signal.SIGINT)]),
}
MACHINE_LOST = [name for name, blow in BLOWS.items() if blow.lost]


@pytest.fixture(scope="module")
def pulse() -> Pulse:
    """What kept everybody waiting."""
    pulse = Pulse()
    pulse.start()
    return pulse


@pytest.fixture(scope="module")
def fates(tmp_path_factory: pytest.TempPathFactory, pulse: Pulse) -> Mapping[str, Fate]:
    """Strike each."""
    folder = tmp_path_factory.mktemp("lost")
    with ThreadPoolExecutor(SIDE_BY_SIDE) as side_by_side:
        places = [folder / str(number) for number in range(len(BLOWS))]
        return dict(zip(BLOWS, side_by_side.map(strike, BLOWS.values(), places), strict=True))


def strike(blow: Blow, folder: Path) -> Fate:
    """Start a load over several machines, strike it, and wait for what is left of it."""
    folder.mkdir()
    command = LOOKING if blow.hasty else ONE
    words = [*blow.words, *over(blow.machines, command), "--workers", blow.workers]
    script = ("--exact", "--ttft-ms", "30", "--itl-ms", "5")
    with Simulated(*script) as server:
        call = load(folder, server.url, *words)
        if blow.hasty:
            call[1:2] = [str(HASTY), "bench.py"]
        path = f"{ROOT / 'bench'}:{ROOT}"
        with started(call, folder, PYTHONPATH=path, PYTHONWARNINGS="error") as head:
            wait_until(lambda: finished(server.truth_path) >= BLOW or head.poll() is not None)
            assert head.poll() is None, said(head)
            there = foremen(head.pid)
            victims = Victims(head.pid, there, [senders_of(one) for one in there])
            struck_ns = time.perf_counter_ns()
            for pid, how in blow.strikes(victims):
                os.kill(pid, how)
            code, text = said(head)
            left = outliving([*there, *(pid for of in victims.sending for pid in of)])
        return Fate(code, text, struck_ns, left, server.truth(), folder / "results")


def finished(truth: Path) -> int:
    """Return how many replies the server has finished."""
    return truth.read_bytes().count(b"\n") if truth.exists() else 0


def outliving(pids: list[int]) -> list[int]:
    """Return those that don't end by themselves in a generous time."""
    give_up_s = time.monotonic() + LIMIT_S
    while (left := [pid for pid in pids if lives(pid)]) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("name", BLOWS)
def test_nothing_is_left_running_and_no_traceback_is_shown(
    fates: Mapping[str, Fate], name: str
) -> None:
    assert fates[name].left == []
    assert "Traceback" not in fates[name].text


@pytest.mark.parametrize("name", BLOWS)
def test_what_was_measured_by_then_is_kept_once(
    fates: Mapping[str, Fate], pulse: Pulse, name: str
) -> None:
    fate = fates[name]
    rows = list(fate.rows["request_index"])
    patience_ns = NS + pulse.stalled_ns(fate.struck_ns)
    due = {
        int(told["request_id"].rpartition("-")[2])
        for told in fate.truth
        if told["outcome"] == "ok" and told["t_end_ns"] < fate.struck_ns - patience_ns
    }
    assert due <= set(rows)
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("name", MACHINE_LOST)
def test_a_lost_machine_is_told_and_the_others_send_all_that_is_theirs(
    fates: Mapping[str, Fate], name: str
) -> None:
    fate, blow = fates[name], BLOWS[name]
    assert fate.code == 4, fate.text
    assert fate.info.status == "incomplete"
    told = told_of(fate)
    assert [place for place, one in enumerate(told) if one["lost"]] == list(blow.lost)
    notes, of_each = "\n".join(fate.info.notes), fate.rows["machine"].value_counts()
    for place, one in enumerate(told):
        assert one["rows"] == of_each.get(one["machine"], 0)
        if one["lost"]:
            assert f"{one['machine']} {one['lost']}" in notes
            # All of them, if it had sent all to a slow server when it was asked to end.
            assert one["rows"] <= REQUESTS // blow.machines
        elif name != "one by one" or place != HALF_DEAD:
            assert one["rows"] == REQUESTS // blow.machines


def test_a_machine_goes_on_without_one_of_its_sending_processes(fates: Mapping[str, Fate]) -> None:
    fate = fates["one by one"]
    struck = told_of(fate)[HALF_DEAD]
    assert [m["senders"] for m in told_of(fate)] == [2] * 4
    assert struck["lost"] is None
    assert fate.workers_lost(struck["machine"]) == 1
    share = REQUESTS // 4
    assert share // 2 <= struck["rows"] < share


def told_of(fate: Fate) -> list[dict[str, Any]]:
    assert fate.info.client_health is not None
    found: list[dict[str, Any]] = fate.info.client_health["machines"]
    return found


@pytest.mark.parametrize("name", ["head", "head asked to end"])
def test_without_its_head_a_machine_sends_nothing_after_a_second(
    fates: Mapping[str, Fate], pulse: Pulse, name: str
) -> None:
    fate = fates[name]
    assert fate.code == (130 if "asked" in name else -signal.SIGKILL)
    last_ns = max(told["t_received_ns"] for told in fate.truth)
    assert last_ns - fate.struck_ns < NS + pulse.stalled_ns(fate.struck_ns)
    assert len(fate.truth) < REQUESTS
