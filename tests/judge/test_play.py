"""Whole cases: a simulator, bench.py, and what both wrote down; and the script's end."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.planted.beside import buffering
from vllm_bench.planted.inputs import write_inputs
from vllm_bench.planted.play import PlayError, judged, play
from vllm_bench.planted.situation import Setup, Situation
from vllm_bench.planted.table import markdown, plain

from tests.support.beside.waiting import LIMIT_S, wait_until

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "judge.py"
TTFT_MS, ITL_MS, TOKENS = 30, 10, 8
SERVER = f"--exact --ttft-ms {TTFT_MS} --itl-ms {ITL_MS}"
SHORT: dict[str, Any] = {
    "concurrencies": [4],
    "num_requests": 80,
    "max_new_tokens": TOKENS,
    "ignore_eos": True,
}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLLM_BENCH_CACHE", str(tmp_path / "cache"))
    write_inputs(tmp_path)
    return tmp_path


def test_truth_and_client_tell_of_the_same_server(inputs: Path) -> None:
    played = play(Setup(SERVER, SHORT), inputs / "case", inputs)
    shown, true = played.shown, played.true
    assert played.summary.succeeded == SHORT["num_requests"]
    for figure, least in (("TTFT p50", TTFT_MS), ("latency p50", TTFT_MS + ITL_MS * 7)):
        assert min(true[figure] or 0, shown[figure] or 0) >= least  # no token comes early
    for figure in ("TPOT p50", "tokens/s", "prompt tokens p50"):
        assert true[figure] == pytest.approx(shown[figure], rel=0.5)


def test_what_a_proxy_holds_back_is_an_error_of_what_is_shown(inputs: Path) -> None:
    situation = Situation("x", "y", Setup(SERVER, SHORT, beside=buffering(1 << 20)))
    played = play(situation.setup, inputs / "case", inputs)
    case = judged(situation, played, played)
    assert case.off is not None
    assert case.off.figure.startswith("TTFT")
    assert case.off.share > 1  # seven tokens of 10 ms on 30 ms
    assert case.right == (case.verdict != "VALID")
    for text in (plain([case]), markdown([case])):
        assert case.verdict in text


def test_users_whose_requests_fail_wait_for_ever(inputs: Path) -> None:
    situation = Situation(
        "x", "y", Setup(f"{SERVER} --faults http_500:0.2", {**SHORT, "num_requests": 120})
    )
    played = play(situation.setup, inputs / "case", inputs)
    assert played.true["TTFT p95"] == math.inf
    case = judged(situation, played, played)
    assert case.right == (case.verdict != "VALID")


def test_a_case_that_cannot_run_says_why_in_a_line(inputs: Path) -> None:
    with pytest.raises(PlayError, match="num_request") as caught:
        play(Setup(SERVER, {**SHORT, "num_request": 3}), inputs / "case", inputs)
    assert "\n" not in str(caught.value)


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    words = ["--only", "natural lengths", "--keep", str(tmp_path / "kept")]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "kept" / "natural-lengths" / "bench.log"
    wait_until(lambda: log.exists() and "planted-" in log.read_text())
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert told == "judge.py: interrupted\n"
    assert working_in(tmp_path) == []


def working_in(folder: Path) -> list[str]:
    """The command lines of other processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue  # gone meanwhile
        if os.fsencode(folder) in words and int(path.parent.name) != os.getpid():
            found.append(os.fsdecode(words).replace("\0", " "))
    return found
