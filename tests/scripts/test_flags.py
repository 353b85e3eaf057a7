"""Flags of the scripts: what a wrong value is told as, and what their help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bench/bench.py --workers 0", "--workers: 0: must be a whole number from 1 to 256, or"),
        ("bench/bench.py --workers two", "--workers: two: must be a whole number from 1 to 256"),
        ("bench/bench.py --wait-s -1", "--wait-s: -1: must be a number of seconds from 0 on"),
        ("bench/bench.py --wait-s x", "--wait-s: x: must be a number of seconds from 0 on"),
        ("bench/bench.py --telemetry-command 'a", "--telemetry-command: 'a: No closing quotation"),
        ("bench/bench.py --res X", "unrecognized arguments: --res"),  # make all looks for the whole
        ("bench/calibrate.py --repeats x", "--repeats: x: must be a whole number from 1 to 16384"),
        ("bench/calibrate.py --streams 1,0", "--streams: 0: must be a whole number from 1 to"),
        ("bench/observe_gpu.py --hz fast", "--hz: fast: samples a second must be 0.5 to 100"),
        ("inspect_prompts.py --show -1", "--show: -1: must be a whole number, 0 or more"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(words: str, said: str) -> None:
    done = run(*words.split(" "))
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "script", ["bench.py", "summarize.py", "plot.py", "report.py", "calibrate.py"]
)
def test_help_tells_the_defaults_and_the_exit_code_of_ctrl_c(script: str) -> None:
    told = " ".join(run(f"bench/{script}", "--help").stdout.split())
    assert "(default: results, beside bench)" in told
    assert "130 interrupted" in told
    if script == "bench.py":
        assert "(default: bench/scenarios.yaml)" in told
        assert "(default: 300)" in told
