"""bench/load_real_prompts.py as a person runs it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_bench.scenario.datasets import DATASETS, HUB_SETS

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
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{good}: 1 prompts; sha256 {sha256}; {tmp_path}/a.jsonl; ")
    assert line.endswith("1 repeated")
    (complaint,) = done.stderr.splitlines()
    assert complaint.startswith("load_real_prompts.py: file:/no: ")


def test_the_loader_lists_sets_with_their_licences(tmp_path: Path) -> None:
    done = run_loader("--list", cache_dir=tmp_path)
    found = {line.split(":")[0]: line for line in done.stdout.splitlines()}
    assert found.keys() == set(DATASETS)
    assert HUB_SETS["alpaca"].licence in found["alpaca"]


@pytest.mark.parametrize(
    "words", [["dolli"], ["--list", "dolly"], ["--list", "--refresh"], ["sample", "--refresh"]]
)
def test_the_loader_refuses_what_makes_no_sense(tmp_path: Path, words: list[str]) -> None:
    done = run_loader(*words, cache_dir=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert ("did you mean dolly" in done.stderr) == (words == ["dolli"])
