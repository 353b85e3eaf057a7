"""compare.py on real runs: a simulator with 16 places, with 64, and with 64 again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.simulator import simulator

from tests.support.running import run_bench, run_script, write_scenario

pytestmark = pytest.mark.process
REPEATS = 5  # a machine that is busy may spoil one, and a word takes four pairs


def add_side(folder: Path, label: str, seqs: int) -> None:
    """Run 32 streams for two seconds, some times."""
    with simulator("--max-num-seqs", str(seqs), "--served-model-name", "m") as (url, _):
        scenario: dict[str, Any] = {
            **{"base_url": url, "model": "m", "max_new_tokens": 16, "ignore_eos": True},
            **{"concurrencies": [32], "duration_s": 2, "repeats": REPEATS},
        }
        done = run_bench(folder, write_scenario(folder, **scenario), "--label", label)
    assert done.returncode in (0, 4), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    for label, seqs in (("few", 16), ("many", 64), ("again", 64)):
        add_side(folder, label, seqs)
    return folder


def compared(folder: Path, a: str, b: str) -> tuple[int, dict[str, str | None]]:
    """Return the exit code, and the word on each measure."""
    words = ("--results-dir", folder / "results", "--format", "json", a, b)
    done: subprocess.CompletedProcess[str] = run_script("bench/compare.py", *words)
    assert done.stderr == ""
    (level,) = json.loads(done.stdout)["levels"]
    return done.returncode, {row["measure"]["name"]: row["word"] for row in level["rows"]}


def test_fewer_places_are_slower_and_more_are_faster(folder: Path) -> None:
    """TTFT gains a queue, which no busy machine hides; tokens/s it may spread beyond a word."""
    code, words = compared(folder, "many", "few")
    assert (code, words["ttft_p50_ms"]) == (3, "slower")
    assert words["output_tokens_per_s"] in ("slower", "cannot tell")
    code, words = compared(folder, "few", "many")
    assert words["ttft_p50_ms"] == "faster"
    assert words["output_tokens_per_s"] in ("faster", "cannot tell")


def test_the_same_again_is_not_slower(folder: Path) -> None:
    _, words = compared(folder, "many", "again")
    assert words["output_tokens_per_s"] not in ("slower", "faster", None)
