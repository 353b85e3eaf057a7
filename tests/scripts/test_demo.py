"""`make demo`, less the install: the three scripts against a simulator of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.beside.waiting import LIMIT_S, wait_until

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts with a shorter demo, so that the test is quick."""
    for name in ("bench", "server"):
        without = shutil.ignore_patterns("__pycache__", ".env")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=without)
    settings = yaml.safe_load((ROOT / "bench" / "scenarios.yaml").read_text())
    settings["scenarios"]["demo"] |= {"duration_s": 1, "concurrencies": [1, 4]}
    (tmp_path / "bench" / "scenarios.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def demo(checkout: Path) -> subprocess.Popen[str]:
    """Start the demo of the copy."""
    script = checkout / "bench" / "demo.py"
    return subprocess.Popen(
        [sys.executable, str(script), "--results-dir", str(checkout / "results")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "VLLM_BENCH_CACHE": str(checkout / "cache")},
    )


def simulators(checkout: Path) -> list[int]:
    """The processes that run this copy's simulator."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes()
        except OSError:
            continue  # gone meanwhile
        if str(checkout / "server" / "simulator.py").encode() in words:
            found.append(int(line.parent.name))
    return found


def test_the_demo_ends_with_a_table_and_pictures_and_leaves_nothing_running(checkout: Path) -> None:
    process = demo(checkout)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (0, 4), err  # a busy machine may spoil it, and it says so
    assert "SIMULATOR" in out
    assert "simulated server" in out
    assert "make server" in out
    results = checkout / "results"
    assert len(list(results.glob("demo-*.csv"))) == 2
    assert len(list((results / "plots").glob("*_ttft_cdf.png"))) == 2
    assert (results / "summary.md").exists()
    assert "report.html" in out
    assert (results / "report.html").stat().st_size > 1_000_000
    assert not simulators(checkout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing_running(
    checkout: Path, number: signal.Signals
) -> None:
    process = demo(checkout)
    wait_until(lambda: simulators(checkout))
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (130, 0, 4), err
    assert not simulators(checkout)
