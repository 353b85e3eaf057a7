"""bench/load_real_prompts.py as a person runs it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.data_sets import write

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


def run_loader(*words: str, cache_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load_real_prompts.py"), *words],
        env={"VLLM_BENCH_CACHE": str(cache_dir), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_loader_describes_each_set_in_a_line_and_goes_on_after_a_bad_one(
    tmp_path: Path,
) -> None:
    good = write(tmp_path, "a.jsonl", '"One"\n"One"\n')
    done = run_loader("file:/no", good, cache_dir=tmp_path)
    assert done.returncode == 1
    sha256 = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    assert done.stdout == (
        f"{good}: 1 prompts; sha256 {sha256}; {tmp_path}/a.jsonl; rows left out: 1 repeated\n"
    )
    assert done.stderr == (
        "load_real_prompts.py: file:/no: can't be read: No such file or directory\n"
    )


def test_the_loader_lists_sets_with_their_licences(tmp_path: Path) -> None:
    done = run_loader("--list", cache_dir=tmp_path)
    assert "alpaca: not fetched; licence CC BY-NC 4.0 (non-commercial); https://" in done.stdout


@pytest.mark.parametrize(
    "words", [["dolli"], ["--list", "dolly"], ["--list", "--refresh"], ["sample", "--refresh"]]
)
def test_the_loader_refuses_what_makes_no_sense(tmp_path: Path, words: list[str]) -> None:
    done = run_loader(*words, cache_dir=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
