"""Flags of the scripts: wrong values, what help says, and runs by flags alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.scripts.conftest import Bench, Scenarios
from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.reading import one_line
from tests.support.running import ROOT, assert_ran, info, rows, run_script, write_prompts

pytestmark = pytest.mark.process
SCRIPTS = [
    *(f"bench/{path.name}" for path in sorted((ROOT / "bench").glob("*.py"))),
    *("server/simulator.py", "server/source.py"),
    *("tools/chaos.py", "tools/soak.py", "tools/make_tiny_model.py"),
]


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
        ("bench/peers.py --peer vllmrs", "vllmrs", "did you mean vllm-rs?"),
        ("server/simulator.py --profile tiny", "--profile", "tiny-cpu"),
        ("server/simulator.py --exakt", "--exakt", "did you mean --exact?"),
        ("server/simulator.py --num-prompts 5", "--num-prompts", "bench.py has --num-requests"),
        ("server/source.py --port 99999", "--port: 99999", "0 to 65535"),
        ("server/source.py --itl-ms -5", "--itl-ms: -5", "more than 0"),
        ("server/source.py --tokns 5", "--tokns", "did you mean --tokens?"),
        ("tools/chaos.py --seed x", "--seed: x", "whole number"),
        ("tools/chaos.py --side-by-sid 0", "--side-by-side: 0", "1 to 100000"),
        ("tools/soak.py --minuts 3", "--minuts", "did you mean --minutes?"),
        ("tools/soak.py --workers zero", "--workers: zero", "1 to 256"),
        ("tools/soak.py --tokens -1", "--tokens: -1", "1 to 100000"),
        ("tools/make_tiny_model.py --bogus", "one folder", "FOLDER"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(words: str, flag: str, allowed: str) -> None:
    done = run_script(*words.split(" "), PYTHONPATH=str(ROOT))
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert flag in line
    assert allowed in line
    for foreign in ("argument", "unrecognized", "invalid", "usage:", "Errno"):
        assert foreign not in line


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_its_libraries_says_what_to_do(script: str, tmp_path: Path) -> None:
    words = [tmp_path / "model"] if "model" in script else []
    sides = ["a", "b"] if script in ("bench/ab.py", "bench/compare.py") else []
    sides = ["127.0.0.1:9"] if script == "bench/sender.py" else sides
    # -S: none of the environment's
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / script), *words, *sides],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stdout) == (1, "")
    line = one_line(done.stderr)
    assert "the library " in line
    assert ("vLLM's own" if words else "run make install, then ") in line


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


def test_what_can_never_run_is_one_line_though_flags_made_it(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    words = ("--concurrency", "1", "--dataset", "sample", "--results-dir", tmp_path / "results")
    server = ("--base-url", tiny_vllm.base_url, "--model", "another")
    done = run_script("bench/bench.py", *server, *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("bench.py: ")


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


def test_flags_alone_run_and_are_told_as_a_file_to_keep(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    words = [
        *("--base-url", tiny_vllm.base_url, "--model", "tiny", "--concurrency", "2"),
        *("--num-requests", "8", "--max-new-tokens", "4", "--slo", "ttft_ms.p50=5000"),
        *("--slo", "requests_per_s.min=0.001", "--set", "slo_tiers.slow.tpot_ms.p99=9000"),
        *("--set", "seed=9", "--dataset", f"file:{write_prompts(tmp_path)}"),
    ]
    done = run_script("bench/bench.py", *words, "--results-dir", tmp_path / "results")
    assert_ran(done)
    assert len(rows(tmp_path)) == 8
    run = info(tmp_path)
    assert (run.scenario["name"], run.scenario["seed"], run.concurrency) == ("adhoc", 9, 2)
    kept = yaml.safe_load(done.stderr.partition("to keep:\n")[2])
    asked = kept["scenarios"]["adhoc"]
    assert asked["slo"] == {"ttft_ms": {"p50": 5000.0}, "requests_per_s": {"min": 0.001}}
    assert asked["slo_tiers"] == {"slow": {"tpot_ms": {"p99": 9000.0}}}
    file = tmp_path / "kept.yaml"
    file.write_text(yaml.safe_dump(kept))
    again = run_script("bench/bench.py", "--scenarios", file, "--results-dir", tmp_path / "again")
    assert_ran(again)
    (other,) = (tmp_path / "again").glob("*.json")
    assert json.loads(other.read_text())["plan"]["sha256"] == run.plan["sha256"]


def test_what_is_too_long_for_the_server_is_left_out_before_the_first_request(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    both = {"base_url": tiny_vllm.base_url, "model": "tiny", "concurrencies": [1]}
    both |= {"num_requests": 2, "max_new_tokens": 4, "dataset": f"file:{write_prompts(tmp_path)}"}
    long = {"prefill_tokens": tiny_vllm.max_model_len - 3}
    file = tmp_path / "two.yaml"
    file.write_text(json.dumps({"defaults": both, "scenarios": {"long": long, "fits": {}}}))
    words = ["--scenarios", file, "--results-dir", tmp_path / "results"]
    done = run_script("bench/bench.py", *words)
    assert_ran(done)
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("left out:")]
    assert "long" in told
    assert str(tiny_vllm.max_model_len) in told
    assert info(tmp_path).scenario["name"] == "fits"
    alone = run_script("bench/bench.py", *words, "--name", "long")
    assert alone.returncode == 2
    assert alone.stderr.splitlines()[-1].startswith("bench.py: scenario long:"), alone.stderr


def test_how_many_runs_and_how_long_is_said_first(bench: Bench, scenarios: Scenarios) -> None:
    done = bench(scenarios(concurrencies=[1, 2], num_requests=3, repeats=2))
    assert_ran(done)
    assert "4 runs: 12 measured requests" in done.stderr.splitlines()
