"""The script as a person meets it: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.simulated import SCRIPT, Simulated
from tests.support.beside.waiting import LIMIT_S

pytestmark = pytest.mark.process


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--port", "0", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--nonsense", "simulator.py: --nonsense: no such flag"),
        ("--max-num-seqs 0", "0: must be a whole number, 1 or more"),
        ("--exact --itl-ms -1", "-1"),
        ("--exact --itl-ms soon", "soon: must be a number of milliseconds"),
        ("--itl-ms 20", "--itl-ms is for exact mode; add --exact"),
        ("--exact --max-num-seqs 8", "--max-num-seqs is for the engine"),
        ("--exact --no-enable-prefix-caching", "--no-enable-prefix-caching is for the engine"),
        ("--faults cutt", "unknown kind 'cutt'; did you mean cut?"),
        ("--faults nowhere.yaml", "cannot read nowhere.yaml"),
        ("--port 99999", "--port: 99999: must be a whole number from 0 to 65535"),
        ("--port -1", "--port: -1: must be a whole number from 0 to 65535"),
        ("--profile tiny", "--profile: tiny: must be one of gpt-oss-20b-h100, llama-8b-a100"),
        ("--profile tiny", "did you mean tiny-cpu?"),
        ("--prot 80", "--prot: no such flag; did you mean --port?"),
        ("--seed x", "--seed: x: must be a whole number"),
        ("--port", "--port: needs a value"),
        ("--profile tiny-cpu --num-gpu-blocks 4", "the KV cache holds 64 tokens"),
        ("--gpu-memory-utilization 1.5", "gpu_memory_utilization"),
        ("--gpu-memory-utilization 0.1", "leaves no memory for the KV cache"),
        ("--kv-cache-dtype fp16", "kv_cache_dtype is 'fp16'"),
        ("--max-num-batched-tokens 8", "raise the first or lower the second"),
        ("--reasoning-tokens 9", "--reasoning-tokens needs --reasoning"),
        ("--num-speculative-tokens -1", "-1: must be a whole number, 1 or more"),
        ("--host 203.0.113.9", "cannot serve on 203.0.113.9:0"),
        ("--truth /nowhere/truth.jsonl", "cannot write --truth /nowhere/truth.jsonl: No such file"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_2(flags: str, words: str) -> None:
    done = run(*flags.split())
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


AT_ITS_LINE = """
import builtins, os, runpy, sys

def told(*words, say=print, **how):
    say(*words, **how)
    if how.get("flush"):  # its URL
        os.kill(os.getpid(), number)

builtins.print = told
number, sys.argv = int(sys.argv[1]), sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", ["simulator.py --exact", "source.py --processes 3 --record r"])
def test_whoever_has_read_its_line_may_end_it(
    tmp_path: Path, script: str, number: signal.Signals
) -> None:
    words = f"{number:d} {SCRIPT.parent}/{script} --port 0".split()
    done = subprocess.run(
        [sys.executable, "-c", AT_ITS_LINE, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("http")) == (0, 1), done.stderr
    if "source" in script:
        assert len((tmp_path / "r").read_text().splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with Simulated("--exact") as server:
        server.process.send_signal(number)
        out, err = server.process.communicate(timeout=LIMIT_S)
    assert server.process.returncode == 0
    assert out == ""
    assert err.count("\n") == 1


def test_it_says_that_it_is_a_simulator_and_never_its_key() -> None:
    with Simulated("--api-key", "hush-hush", "--profile", "tiny-cpu") as server:
        assert server.client.get("/v1/models").status_code == 401
        headers = {"authorization": "Bearer hush-hush"}
        assert server.client.get("/v1/models", headers=headers).status_code == 200
        assert server.client.get("/version").json() == {"version": "0.33.0+simulator"}
        answer = server.client.get("/health")
        assert answer.headers["server"] == "vllm-bench-simulator"
        server.process.send_signal(signal.SIGTERM)
        out, err = server.process.communicate(timeout=LIMIT_S)
    assert server.url in err
    assert "simulator" in err
    assert "hush" not in out + err


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "hush-hush")
    with Simulated("--exact") as server:
        assert server.client.get("/v1/models").status_code == 401


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with Simulated("--exact") as server:
        port = server.url.rpartition(":")[2]
        done = run("--port", port)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"127.0.0.1:{port}" in done.stderr


def test_help_names_every_kind_of_fault() -> None:
    from sim.faults import KINDS

    text = run("--help").stdout
    assert all(f"  {kind} " in text for kind in KINDS)
