"""What is killed while Ray's nodes send: the run goes on without it, says so; nothing is left.

Two calls of bench.py send over one cluster at the same time, and share the node that dies.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.machines.ray.placing import (
    Place,
    Running,
    alive,
    below,
    foremen_at,
    has_ray,
    processes,
)
from tests.machines.running import load
from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.frames import read_frame
from tests.support.running import environment

pytestmark = pytest.mark.process

STREAMS, REQUESTS, NODES = 6, 420, 3
SLOW = ("--exact", "--ttft-ms", "60", "--itl-ms", "5")
HEAD = "__internal_head__"  # a resource of its node
SOME = 10  # rows: a run is under way


@dataclass
class Struck:
    """A bench.py which has lost some of its nodes, or was itself killed."""

    folder: Path
    process: subprocess.Popen[str]
    errors: Path
    code: int = 0
    there: list[Running] = field(default_factory=list)  # all that it has started

    @property
    def door(self) -> str:
        """Where it listens; empty: nowhere yet."""
        found = re.search(r"waiting for \d+ machines? at (\S+)", self.errors.read_text())
        return found[1] if found else ""

    def under_way(self) -> bool:
        """Whether it has rows; and note what it has started by now."""
        files = [f for f in (self.folder / "results").glob("*.csv") if f.stat().st_size]
        assert self.process.poll() is None, self.errors.read_text()
        if sum(len(file.read_text().splitlines()) - 1 for file in files) <= SOME:
            return False
        every = processes()
        actors = [every[foreman.parent] for foreman in foremen_at(self.door, every)]
        at_nodes = [each for actor in actors for each in below(actor.pid, every)]
        self.there = [*below(self.process.pid, every), *actors, *at_nodes]
        return True

    def nodes(self, every: Mapping[int, Running]) -> dict[int, Running]:
        """Return its foremen, by their node, of all that run."""
        return {every[p.parent].parent: p for p in foremen_at(self.door, every)}

    def info(self) -> Any:
        (path,) = (self.folder / "results").glob("*.json")
        return read_run_info(path)

    def rows(self) -> Any:
        (path,) = (self.folder / "results").glob("*.csv")
        return read_frame(path)


def begin(stack: ExitStack, folder: Path, where: str, *words: object, **env: str) -> Struck:
    folder.mkdir()
    errors = folder / "errors"
    server = stack.enter_context(Simulated(*SLOW))
    command = load(folder, server.url, "--concurrency", STREAMS, "--ray", where, *words)
    with errors.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=file,
            text=True,
            env=environment(folder, **env),
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return Struck(folder, process, errors)


@pytest.fixture(scope="module")
def struck(
    somebodys: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Struck, Struck]]:
    """One that is left to its end, and one that is interrupted."""
    folder, env = tmp_path_factory.mktemp("struck"), somebodys.environ
    with ExitStack() as stack:
        at = somebodys.address
        many = ("--num-requests", 100 * REQUESTS, "--workers", 2)
        other = begin(stack, folder / "other", at, *many, **env)
        wait_until(other.under_way)
        one = begin(stack, folder / "one", at, "--num-requests", REQUESTS, **env)
        wait_until(one.under_way)
        # Whoever uses the cluster is attached to its head's node, which is spared.
        every = processes()
        mine, others = one.nodes(every), other.nodes(every)
        head, node, third = sorted(mine, key=lambda pid: HEAD not in every[pid].words)
        sending = [p for p in below(others[head].pid, every) if "spawn_main" in p.words]
        os.kill(node, signal.SIGKILL)
        os.kill(mine[third].pid, signal.SIGKILL)  # its foreman there
        os.kill(sending[0].pid, signal.SIGKILL)  # the other goes on
        os.kill(others[third].parent, signal.SIGKILL)  # its actor
        one.code = one.process.wait(LIMIT_S)
        other.process.send_signal(signal.SIGINT)
        other.code = other.process.wait(LIMIT_S)
        yield one, other


def test_the_run_goes_on_and_is_invalid(struck: tuple[Struck, Struck]) -> None:
    one, _ = struck
    said = one.errors.read_text()
    assert one.code == 4, said
    assert "machine_lost" in said
    info, rows = one.info(), one.rows()
    assert info.status == "incomplete"
    machines = info.client_health["machines"]
    assert len(machines) == NODES
    (spared,) = {m["machine"] for m in machines if not m["lost"]}
    assert len(rows[rows["machine"] == spared]) == REQUESTS // NODES
    assert SOME < len(rows) < REQUESTS
    assert rows["request_index"].is_unique


def test_who_placed_it_tells_what_ended(struck: tuple[Struck, Struck]) -> None:
    for one in struck:
        assert re.search(r"^--ray \S+: .* \(127\.0\.0\.1\): ", one.errors.read_text(), re.M)


def test_ctrl_c_ends_a_run_with_its_rows(struck: tuple[Struck, Struck]) -> None:
    _, other = struck
    assert other.code == 130, other.errors.read_text()
    info, rows = other.info(), other.rows()
    assert info.status == "interrupted"
    assert len(rows) > SOME
    assert rows["request_index"].is_unique
    lost = [machine["lost"] for machine in info.client_health["machines"]]
    assert len(lost) - lost.count(None) == 2
    assert sum(worker["lost"] for worker in info.client_health["workers"]) == 2 * 2 + 1


def test_nothing_is_left_on_the_nodes(struck: tuple[Struck, Struck]) -> None:
    for one in struck:
        assert one.there
        wait_until(lambda there=one.there: not alive(there))


def test_a_killed_bench_leaves_nothing_of_its_own_cluster(tmp_path: Path) -> None:
    if not has_ray():
        pytest.skip("no Ray here: make install-ray")
    with ExitStack() as stack:
        many = ("--num-requests", 100 * REQUESTS)
        one = begin(stack, tmp_path / "own", "local:2", *many, TMPDIR="/tmp")
        wait_until(one.under_way)
        words = " ".join(p.words for p in one.there)
        assert all(each in words for each in ("gcs_server", "raylet", "sender.py", "spawn_main"))
        (folder,) = set(re.findall(r'"folder": "(\S+)"', words))
        one.process.kill()
        one.process.wait()
        wait_until(lambda: not alive(one.there))
        wait_until(lambda: not Path(folder).exists())
