"""Flags of the scripts: what a wrong value is told as, and what their help says."""

from __future__ import annotations

import pytest

from tests.support.running import run_script

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("words", "flag", "allowed"),
    [
        ("bench/bench.py --workers 0", "--workers: 0", "1 to 256"),
        ("bench/bench.py --workers two", "--workers: two", "1 to 256"),
        ("bench/bench.py --wait-s -1", "--wait-s: -1", "0 or more"),
        ("bench/bench.py --wait-s x", "--wait-s: x", "0 or more"),
        ("bench/bench.py --give-up-s -1", "--give-up-s: -1", "0 or more"),
        # It may have a password.
        ("bench/bench.py --telemetry-command 'a", "--telemetry-command:", "quotation"),
        ("bench/bench.py --res X", "--res", "no such flag"),  # make all looks for the whole
        ("bench/report.py --colour", "--colour", "no such flag"),
        ("bench/calibrate.py --repeats x", "--repeats: x", "1 to 16384"),
        ("bench/calibrate.py --streams 1,0", "--streams: 0", "1 to 16384"),
        ("bench/judge.py --only twins", "--only twins", "no such case"),
        ("bench/observe_gpu.py --hz fast", "--hz: fast", "0.5 to 100"),
        ("inspect_prompts.py --show -1", "--show: -1", "0 or more"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(words: str, flag: str, allowed: str) -> None:
    done = run_script(*words.split(" "))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert flag in last
    assert allowed in last


@pytest.mark.parametrize(
    "words",
    [
        "bench/bench.py --api-key s3cret",
        "bench/bench.py --hf-token=s3cret",
        "bench/report.py --x password=s3cret",
        "bench/bench.py --telemetry-command 'sshpass-s3cret",
        "bench/bench.py --dcgm-url http://me:s3cret@gpu7/metrics",
        "bench/bench.py --base-url http://gpu7/v1?key=s3cret",
        "bench/bench.py --base-url http://me:s3cret@gpu7/v1",
    ],
)
def test_what_may_be_a_secret_is_not_repeated(words: str) -> None:
    done = run_script(*words.split(" "))
    assert done.returncode == 2
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "script", ["bench.py", "summarize.py", "plot.py", "report.py", "calibrate.py"]
)
def test_help_tells_the_defaults_and_the_exit_code_of_ctrl_c(script: str) -> None:
    told = " ".join(run_script(f"bench/{script}", "--help").stdout.split())
    assert "(default: results" in told
    assert "130 interrupted" in told
    if script == "bench.py":
        assert "(default: bench/scenarios.yaml)" in told
        assert "(default: 300)" in told
