"""Machines whose monotonic clocks are far apart: their rows lie on one timeline."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import RunInfo, read_run_info

from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S
from tests.support.frames import read_frame
from tests.support.running import BENCH, ROOT, environment

pytestmark = pytest.mark.process

HERE = f"{sys.executable} {ROOT / 'bench' / 'sender.py'}"
SOON_MS = 100.0  # for the quickest of many requests to cross a loopback


def ahead(seconds: int) -> str:
    """Return how a command is put on a clock that is ahead, or behind; skips where nobody may."""
    words = f"unshare --time --monotonic {seconds} --boottime {seconds} --fork --kill-child"
    try:
        subprocess.run([*words.split(), "true"], check=True, capture_output=True, timeout=LIMIT_S)
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f"no time namespace here (root alone may make one): {e}")
    return words


def sent_by(folder: Path, *commands: str, url: str) -> tuple[RunInfo, list[dict[str, Any]]]:
    """Run a load over machines that these commands start; return its JSON and its rows."""
    words = [word for command in commands for word in ("--senders", command)]
    load = ["--concurrency", "6", "--num-requests", "60", "--max-new-tokens", "5"]
    done = subprocess.run(
        [
            *(sys.executable, str(BENCH), "--base-url", f"{url}/v1", "--model", "exact", "--plain"),
            *("--dataset", "sample", "--results-dir", str(folder / "results"), *load, *words),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(folder),
    )
    # Whether so short a run is to be believed isn't asked here.
    assert done.returncode in (0, 4), done.stdout + done.stderr
    (path,) = (folder / "results").glob("*.csv")
    info = read_run_info(path.with_suffix(".json"))
    assert info.status == "complete"
    return info, [dict(row) for _, row in read_frame(path).iterrows()]


@dataclass(frozen=True)
class Sent:
    """A run, and the server's own record of it."""

    info: RunInfo
    rows: list[dict[str, Any]]
    truth: dict[str, dict[str, Any]]

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        return {one["machine"]: one for one in self.info.client_health["machines"]}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """Three machines, of which one is 1,000 s ahead and one behind."""
    commands = [HERE, f"{ahead(1000)} {HERE}", f"{ahead(-1000)} {HERE}"]
    exact = ("--exact", "--ttft-ms", "20", "--itl-ms", "5", "--model", "exact")
    with Simulated(*exact) as server:
        info, rows = sent_by(tmp_path_factory.mktemp("clocks"), *commands, url=server.url)
        truth = {one["request_id"]: one for one in server.truth()}
    return Sent(info, rows, truth)


def test_clocks_far_apart_are_told(sent: Sent) -> None:
    found = sent.machines.values()
    assert sorted(round(m["offset_ms"] / 1e6) for m in found) == [-1, 0, 1]
    for one in found:
        assert 0 < one["offset_error_ms"] < 1000
        assert 0 < one["ping_ms"]["fastest"] <= one["ping_ms"]["p99"]
        assert abs(one["start_apart_ms"]) < 60_000
    json.dumps(sent.info.client_health["machines"], allow_nan=False)


def test_rows_of_clocks_far_apart_lie_on_one_timeline(sent: Sent) -> None:
    start_ns, machines = sent.info.clock_start.monotonic_ns, sent.machines
    crossed_ms: dict[str, list[float]] = {name: [] for name in machines}
    for row in sent.rows:
        served, error_ms = (
            sent.truth[row["request_id"]],
            machines[row["machine"]]["offset_error_ms"],
        )
        took_ms = (served["t_received_ns"] - start_ns) / 1e6 - row["t_sent_s"] * 1000
        came_ms = row["t_end_s"] * 1000 - (served["t_sent_ns"][-1] - start_ns) / 1e6
        assert min(took_ms, came_ms) > -error_ms - 0.1  # nothing arrives before it was sent
        crossed_ms[row["machine"]].append(max(took_ms, came_ms))
    assert {name: len(took) for name, took in crossed_ms.items()} == dict.fromkeys(machines, 20)
    assert all(min(took) < SOON_MS for took in crossed_ms.values())


def test_what_machines_say_of_a_run_is_on_the_heads_clocks(sent: Sent) -> None:
    info = sent.info
    assert info.client_health["clock"] == "kernel"  # its pairs with each machine's clock hold
    begin, end = info.clock_start, info.clock_end
    assert end is not None
    monotonic_s = (end.monotonic_ns - begin.monotonic_ns) / 1e9
    assert max(row["t_end_s"] for row in sent.rows) - 0.1 < monotonic_s < LIMIT_S
    assert abs(end.wall_s - begin.wall_s - monotonic_s) < 0.5
