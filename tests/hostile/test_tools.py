"""`make chaos` and `make soak`, played: a few faults, a few seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.beside.waiting import LIMIT_S
from tools.hostile.processes import ROOT

pytestmark = pytest.mark.process


def tool(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tools.{name}", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_three_faults_lose_nothing(tmp_path: Path) -> None:
    words = ("--faults", 3, "--only", "kill_bench", "stop_server", "net_reset", "--keep", tmp_path)
    done = tool("chaos", *words, "--side-by-side", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^\[ *\d/3\] (\w+)", done.stdout, re.MULTILINE)
    assert len(lines) == 3
    assert list(tmp_path.iterdir()) == []  # only what went wrong is kept


def test_the_kinds_are_listed_and_an_unknown_one_is_wrong_usage() -> None:
    listed = tool("chaos", "--list")
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) > 40
    assert tool("chaos", "--only", "earthquake").returncode == 2
    assert tool("chaos", "--number", "4").returncode == 2
    assert tool("soak", "--minutes", "0").returncode == 2


def test_a_soak_of_seconds_prints_its_looks_and_its_bars(tmp_path: Path) -> None:
    words = ("--minutes", 0.15, "--rate", 30, "--every", 1, "--keep", tmp_path / "kept")
    done = tool("soak", *words)
    looks = re.findall(r"^ +\d+ s .* rows .* due \| bench .* fd .* thr", done.stdout, re.MULTILINE)
    assert len(looks) >= 3, done.stdout + done.stderr
    bars = {name: word for word, name in re.findall(r"^(met|MISSED) +([^:]+): ", done.stdout, re.M)}
    # A few seconds tell nothing of growth, and a busy machine may be late with rows.
    sure = ["end", "rows", "failures", *(name for name in bars if name.startswith("ledger"))]
    assert {name: bars[name] for name in sure} == dict.fromkeys(sure, "met"), done.stdout
    assert len(sure) == 6
    assert done.returncode == ("MISSED" in bars.values())
    assert list((tmp_path / "kept" / "disk" / "results").glob("*.csv"))
