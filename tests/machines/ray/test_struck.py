"""What is killed while Ray's nodes send: the run goes on without it, says so; nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.machines.engines.at_node import Overseer
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
from tests.machines.running import load, wait_until
from tests.sim.simulated import Simulated
from tests.support.frames import read_frame
from tests.support.running import environment

pytestmark = pytest.mark.process

STREAMS, REQUESTS = 6, 180
# What is killed of the first node, and of the second, of two calls of bench.py.
BLOWS = {"softly": ("foreman", "actor"), "hard": ("sending process", "node")}
LIMIT_S = 90.0


@dataclass
class Struck:
    """A bench.py one of whose nodes lost something, or that was itself killed."""

    folder: Path
    process: subprocess.Popen[str]
    errors: Path
    code: int = 0
    of: int = 0  # machines that were there

    @property
    def door(self) -> str:
        """Where it listens; empty: nowhere yet."""
        found = re.search(r"waiting for \d+ machines? at (\S+)", self.errors.read_text())
        return found[1] if found else ""

    def rows(self) -> int:
        files = list((self.folder / "results").glob("*.csv"))
        return sum(len(file.read_text().splitlines()) - 1 for file in files if file.stat().st_size)

    def info(self) -> Any:
        (path,) = (self.folder / "results").glob("*.json")
        return read_run_info(path)


def begin(stack: ExitStack, folder: Path, url: str, where: str, **env: str) -> Struck:
    folder.mkdir()
    errors = folder / "errors"
    words = load(folder, url, "--concurrency", STREAMS, "--num-requests", REQUESTS, "--ray", where)
    with errors.open("w") as file:
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=file, text=True, env=environment(folder, **env)
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return Struck(folder, process, errors)


def strike(one: Struck, blows: tuple[str, ...]) -> None:
    """Wait until it has rows, and kill something of its first nodes."""
    wait_until(lambda: one.process.poll() is not None or one.rows() > 10)
    foremen = foremen_at(one.door)
    assert foremen, one.errors.read_text()
    one.of = len(foremen)
    for foreman, what in zip(foremen, blows, strict=False):
        victims = {
            "foreman": foreman.pid,
            "sending process": next(p.pid for p in below(foreman.pid) if "spawn_main" in p.words),
            "actor": foreman.parent,
            "node": processes()[foreman.parent].parent,
        }
        os.kill(victims[what], signal.SIGKILL)


@pytest.fixture(scope="module")
def struck(
    somebodys: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Struck]]:
    folder, env = tmp_path_factory.mktemp("struck"), somebodys.environ
    with Simulated("--exact", "--ttft-ms", "60", "--itl-ms", "5") as server, ExitStack() as stack:

        def begun(what: str) -> Struck:
            where = folder / what.replace(" ", "-")
            return begin(stack, where, server.url, somebodys.address, **env)

        all_of = {}
        for how, blows in BLOWS.items():  # one after the other: both send from the node that dies
            one = all_of[how] = begun(how)
            strike(one, blows)
            one.code = one.process.wait(LIMIT_S)
        yield all_of


@pytest.mark.parametrize("how", BLOWS)
def test_the_run_goes_on_and_is_invalid(struck: dict[str, Struck], how: str) -> None:
    one = struck[how]
    said = one.errors.read_text()
    assert one.code == 4, said
    assert "machine_lost" in said
    info = one.info()
    assert info.status == "complete"
    (path,) = (one.folder / "results").glob("*.csv")
    rows = read_frame(path)
    machines = info.client_health["machines"]
    assert len(machines) == one.of == 3
    lost = {m["machine"] for m in machines if m["lost"]}
    assert len(lost) == 2
    (spared,) = {m["machine"] for m in machines} - lost
    assert len(rows[rows["machine"] == spared]) == REQUESTS // 3
    assert 10 < len(rows) < REQUESTS
    assert rows["request_index"].is_unique


def test_nothing_is_left_on_the_nodes(struck: dict[str, Struck]) -> None:
    for one in struck.values():
        wait_until(lambda door=one.door: not foremen_at(door))
    wait_until(
        lambda: not [p for p in processes().values() if f"ray::{Overseer.__name__}" in p.words]
    )


def test_a_killed_bench_leaves_nothing_of_its_own_cluster(tmp_path: Path) -> None:
    if not has_ray():
        pytest.skip("no Ray here: make install-ray")
    with Simulated("--exact", "--ttft-ms", "60", "--itl-ms", "5") as server, ExitStack() as stack:
        one = begin(stack, tmp_path / "own", server.url, "local:2", TMPDIR="/tmp")
        wait_until(lambda: one.process.poll() is not None or one.rows() > 20)
        ours = below(one.process.pid)
        words = " ".join(p.words for p in ours)
        assert all(each in words for each in ("gcs_server", "raylet", "sender.py", "spawn_main"))
        (folder,) = set(re.findall(r'"folder": "(\S+)"', words))
        one.process.kill()
        one.process.wait()
        wait_until(lambda: not alive(ours))
        wait_until(lambda: not Path(folder).exists())


def test_ctrl_c_ends_a_run_with_its_rows(somebodys: Place, tmp_path: Path) -> None:
    with Simulated("--exact", "--ttft-ms", "60", "--itl-ms", "5") as server, ExitStack() as stack:
        one = begin(stack, tmp_path / "one", server.url, somebodys.address, **somebodys.environ)
        wait_until(lambda: one.process.poll() is not None or one.rows() > 20)
        ours: list[Running] = [*below(one.process.pid), *foremen_at(one.door)]
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(LIMIT_S) == 130, one.errors.read_text()
        assert one.info().status == "interrupted"
        wait_until(lambda: not alive(ours))
