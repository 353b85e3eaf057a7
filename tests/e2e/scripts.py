"""The scripts as a person types them, in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from tests.e2e.conftest import ROOT, START_LIMIT_S, Served
from tests.support.beside.waiting import wait_until
from tests.support.frames import read_frame


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "VLLM_BENCH_CACHE": str(folder / "cache")}


def script(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / name), *words],
        capture_output=True,
        text=True,
        timeout=2 * START_LIMIT_S,  # four starts of a real server, on a busy machine
        check=False,
        env=environment(folder),
    )


def assert_ran(done: subprocess.CompletedProcess[str]) -> None:
    """The run went through; a busy machine may still have spoilt it (4), and then it says so."""
    assert done.returncode in (0, 4), done.stderr
    assert "0 failed" in done.stderr


def bench_words(folder: Path, served: Served, dataset: str, **changes: Any) -> list[str]:
    settings = {
        "base_url": served.base_url,
        "model": "tiny",
        "dataset": dataset,
        "max_new_tokens": 64,
        "concurrencies": [4],
        "num_requests": 24,
        **changes,
    }
    path = folder / "scenarios.yaml"
    path.write_text(json.dumps({"scenarios": {"one": settings}}))
    return ["--scenarios", str(path), "--results-dir", str(folder / "results")]


def only(folder: Path, pattern: str) -> Path:
    (path,) = (folder / "results").glob(pattern)
    return path


def rows(folder: Path) -> pd.DataFrame:
    return read_frame(only(folder, "*.csv"))


def start_bench(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """Start it, and return in the middle of a run."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "bench.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
    )
    wait_until(lambda: len(rows_so_far(folder)) >= 8)
    return process


def rows_so_far(folder: Path) -> list[str]:
    return [
        line
        for path in (folder / "results").glob("*.csv")
        for line in path.read_text().splitlines()
    ]
