"""The machines that are asked for: as many files as they need, their order, how one was lost."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from vllm_bench.machines.asked import Asked, _order, fleet_asked
from vllm_bench.machines.door import Arrived
from vllm_bench.machines.facts import machine_facts
from vllm_bench.machines.fleet.fleet import MachineMissedError
from vllm_bench.machines.messages import Hello
from vllm_bench.open_files import allow_files

from tests.machines.running import ONE, children
from tests.support.beside.waiting import LIMIT_S
from tests.support.running import environment

ANY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "needed", "set_to", "enough"),
    [
        ((50, 200), 40, None, True),
        ((50, 200), 90, (90, 200), True),
        ((50, 200), 201, (200, 200), False),
        ((50, ANY), 201, (201, ANY), True),
        ((ANY, ANY), 201, None, True),
    ],
)
def test_files_are_allowed_as_far_as_that_may_be(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    needed: int,
    set_to: tuple[int, int] | None,
    enough: bool,
) -> None:
    was_set: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: was_set.append(to))
    assert allow_files(needed) == enough
    assert was_set == ([set_to] if set_to else [])


def test_machines_of_one_host_are_in_the_order_of_their_commands() -> None:
    facts = machine_facts()
    came = [Arrived(Hello("orders", "", facts, str(n)), {}) for n in (10, 2, 0, 11, 1)]
    assert [one.hello.called for one in sorted(came, key=_order)] == ["0", "1", "2", "10", "11"]


@pytest.mark.process
def test_how_a_command_ended_is_said_also_where_that_broke_the_run_off(tmp_path: Path) -> None:
    said: list[str] = []
    asked = Asked(senders=[ONE], environ=environment(tmp_path))
    with pytest.raises(MachineMissedError):
        _lose(asked, said)
    assert "signal 9" in said[-1]


def _lose(asked: Asked, said: list[str]) -> None:
    with fleet_asked(asked, said.append, LIMIT_S) as fleet:
        assert fleet is not None
        (foreman,) = children(os.getpid(), "sender.py")
        os.kill(foreman, signal.SIGKILL)
        os.waitid(os.P_PID, foreman, os.WEXITED | os.WNOWAIT)
        while True:
            fleet.check_there()
