"""Ctrl-C ends every script with exit code 130 and without a traceback, while it imports too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_bench.interrupts import SIGNALS, end_at_once
from vllm_bench.script import run

from tests.support.beside.waiting import LIMIT_S
from tests.support.made_runs import failed_record, made_info, write_run

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
# Python runs this first: Ctrl-C comes at the very moment when a script begins to import PACKAGE. It
# is answered when the import is over, and a script that has no more to do waits for that.
AT_THE_IMPORT = """
import atexit, os, signal, sys, threading

def wait():
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PACKAGE"]:
            signal.raise_signal(signal.SIGINT)
            atexit.register(wait)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("bench/bench.py", "vllm_bench.vllm.server"),
        ("bench/summarize.py", "vllm_bench.summary.summary"),
        ("bench/summarize.py --columns", "numpy"),
        ("bench/plot.py", "vllm_bench.records.find_runs"),
        ("bench/report.py", "numpy"),
        ("bench/calibrate.py", "vllm_bench.records.request_record"),
        ("bench/load_real_prompts.py --list", "vllm_bench.prompts.source"),
        ("bench/observe_gpu.py", "vllm_bench.watch.gpu"),
        ("bench/inspect_prompts.py --dataset sample", "vllm_bench.prompts.source"),
    ],
)
def test_ctrl_c_during_an_import_is_no_traceback(tmp_path: Path, words: str, package: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_THE_IMPORT)
    (tmp_path / "results").mkdir()
    done = subprocess.run(
        [sys.executable, *f"{ROOT / words}".split(" ")],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PACKAGE": package},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_the_exit_code_is_the_scripts_own_unless_it_is_interrupted() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        assert run(lambda: 4) == 4
        assert run(interrupted) == 130
        # The interpreter's end is silent.
        assert {signal.getsignal(number) for number in SIGNALS} == {end_at_once}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


LATE = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT / "bench")!r})
from vllm_bench.script import run

class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), number=int(sys.argv[1])):
        kill(me, number)

late = Late()
sys.exit(run(lambda: 4))
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_python_shuts_down_changes_no_exit_code(number: signal.Signals) -> None:
    """Handlers are gone by then: whatever still lives is taken apart after them."""
    done = subprocess.run([sys.executable, "-c", LATE, str(int(number))], check=False)
    assert done.returncode == 4


@pytest.mark.parametrize("words", ["bench/observe_gpu.py --columns", "bench/calibrate.py --help"])
def test_a_script_whose_output_is_closed_still_ends_well(words: str) -> None:
    command = f"{sys.executable} {ROOT / words} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("bench/summarize.py --codes", 0),
        ("bench/bench.py --dry-run --dataset sample", 0),
        ("bench/bench.py --name smoke_test --base-url http://127.0.0.1:9/v1 --wait-s 0", 1),
    ],
)
def test_a_reader_that_leaves_ends_a_listing_well_and_a_run_not(
    tmp_path: Path, words: str, code: int
) -> None:
    """Both outputs go to a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *f"{ROOT}/{words}".split(" ")],
        stdout=writer, stderr=writer, cwd=tmp_path, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == code


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / "summarize.py"), "--codes"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_does_not_change_what_a_check_finds(tmp_path: Path) -> None:
    """The table goes to a pipe that nobody reads; the run is INVALID all the same."""
    records = [failed_record(i) for i in range(20)]
    write_run(tmp_path, records, made_info(records))
    reader, writer = os.pipe()
    os.close(reader)
    script = str(ROOT / "bench" / "summarize.py")
    done = subprocess.run(
        [sys.executable, script, "--check", "--results-dir", str(tmp_path)],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (4, "")
