"""Every script where outputs are closed, full or frozen, the locale isn't UTF-8, names are odd."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import TinyVllm
from tests.support.frames import read_frame
from tests.support.running import command, environment, tiny_scenario

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    "bench/bench.py --dry-run --dataset sample --name smoke_test --base-url http://127.0.0.1:9/v1",
    "bench/summarize.py --columns",
    "bench/plot.py --help",
    "bench/report.py --help",
    "bench/calibrate.py --help",
    "bench/judge.py --list",
    "bench/peers.py --help",
    "bench/demo.py --help",
    "bench/inspect_prompts.py --dataset sample --min-tokens 0",
    "inspect_prompts.py --help",
    "bench/load_real_prompts.py --list",
    "bench/observe_gpu.py --columns",
    "server/serve.py --dry-run",
    "server/simulator.py --help",
    "server/source.py --help",
]
NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ODD = {**NOT_UTF8, "PYTHONSAFEPATH": "1", "TERM": "dumb", "COLUMNS": "wide", "LINES": "0"}
HOMELESS = ("HOME", "XDG_CACHE_HOME", "VLLM_BENCH_CACHE")


def shell(words: str, redirected: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script as a shell does that closes or redirects its outputs."""
    homeless = {name: value for name, value in os.environ.items() if name not in HOMELESS}
    return subprocess.run(
        ["sh", "-c", f"{sys.executable} {ROOT}/{words} {redirected}"],
        env={**homeless, **env}, capture_output=True, check=False, timeout=LIMIT_S,
        start_new_session=True,  # no controlling terminal
    )  # fmt: skip


@pytest.mark.parametrize("words", SCRIPTS)
def test_a_script_starts_in_any_locale_without_its_folder_in_the_path_and_without_a_home(
    words: str,
) -> None:
    done = shell(words, "", **ODD)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.parametrize("words", SCRIPTS)
def test_a_script_whose_outputs_are_closed_ends_as_it_would(words: str) -> None:
    done = shell(words, "<&- >&- 2>&-")
    assert done.returncode == 0


@pytest.mark.parametrize("words", SCRIPTS[1::4])
def test_a_full_output_is_told_in_a_line_and_fails(words: str) -> None:
    done = shell(words, ">/dev/full")
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr
    if "--help" not in words:
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


@pytest.fixture
def slow_vllm(tiny_vllm: TinyVllm) -> TinyVllm:
    tiny_vllm.token_gap_s = 0.01
    return tiny_vllm


def test_a_run_in_a_folder_of_any_name_by_an_isolated_python_with_nothing_to_print_to(
    tmp_path: Path, slow_vllm: TinyVllm
) -> None:
    """And what it leaves is summed up, drawn and reported there."""
    odd = tmp_path / os.fsdecode("two\nlines \U0001f600 ".encode() + b"\xff")
    scenarios = tiny_scenario(tmp_path, slow_vllm.base_url, concurrencies=[3], num_requests=12)
    python, *words = command(odd, scenarios)
    env = environment(tmp_path, **NOT_UTF8)
    closed = 'exec "$@" >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", closed, "sh", python, "-I", *words], env=env, check=False, timeout=LIMIT_S
    )
    assert done.returncode in (0, 4)
    results = odd / "results"
    (path,) = results.glob("*.json")
    assert read_run_info(path).status == "complete"
    assert len(read_frame(path.with_suffix(".csv"))) == 12
    for script in ("summarize", "plot", "report"):
        said = subprocess.run(
            [python, "-I", ROOT / "bench" / f"{script}.py", "--results-dir", results],
            env=env, check=False, timeout=LIMIT_S, capture_output=True,
        )  # fmt: skip
        assert (said.returncode, said.stderr) == (0, b"")
    assert (results / "report.html").stat().st_size > 0


def test_a_frozen_terminal_holds_up_no_row_and_a_signal_still_ends_the_script(
    tmp_path: Path, slow_vllm: TinyVllm
) -> None:
    """As after Ctrl-S: the terminal takes nothing, and whoever writes to it waits."""
    scenarios = tiny_scenario(tmp_path, slow_vllm.base_url, concurrencies=[3, 4], num_requests=12)
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    process = subprocess.Popen(
        command(tmp_path, scenarios), stdout=slave, stderr=slave, stdin=slave,
        env=environment(tmp_path, TERM="xterm"), start_new_session=True,
    )  # fmt: skip
    results = tmp_path / "results"
    try:
        wait_until(lambda: len(list(results.glob("*.json"))) == 2)
        wait_until(
            lambda: {read_run_info(p).status for p in results.glob("*.json")} == {"complete"}
        )
        assert [len(read_frame(p)) for p in results.glob("*-2*Z.csv")] == [12, 12]
        assert process.poll() is None  # it waits, with its last words
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 130
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
