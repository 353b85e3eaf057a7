"""bench.py as a person runs it, and what a run leaves in its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from vllm_bench.records.run_info import read_run_info

from tests.support.beside.waiting import LIMIT_S
from tests.support.frames import read_frame

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench" / "bench.py"
TALKATIVE = ROOT / "tests" / "support" / "beside" / "talkative.py"  # bench.py with more lines
OWN_CLOCK = ROOT / "tests" / "support" / "own_clock.py"  # bench.py without the kernel's stamps


def run_script(
    script: str, *words: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout, `bench/plot.py` say, to its end; a warning is an error."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "error", **env},
    )


def write_prompts(folder: Path) -> Path:
    """Write 30 prompts, a line each."""
    path = folder / "prompts.txt"
    path.write_text("".join(f"{i} " + "please tell me more " * 20 + "\n" for i in range(30)))
    return path


def write_scenario(folder: Path, **settings: object) -> Path:
    """Write a scenario file with one scenario, on prompts of its own unless it names others.

    Without a warm-up, unless it names one: what the server counted is what the rows say.
    """
    settings = {"warmup_requests": 0, **settings}
    if "dataset" not in settings:
        settings["dataset"] = f"file:{write_prompts(folder)}"
    path = folder / "scenarios.yaml"
    path.write_text(json.dumps({"scenarios": {"one": settings}}))  # JSON is YAML
    return path


def tiny_scenario(folder: Path, base_url: str, **changes: object) -> Path:
    """Write a scenario file for a `TinyVllm`: 4 tokens a request, and what the test says."""
    settings = {"base_url": base_url, "model": "tiny", "max_new_tokens": 4, **changes}
    return write_scenario(folder, **settings)


def command(folder: Path, scenarios: Path, *words: str, script: Path = BENCH) -> list[str]:
    return [
        *(sys.executable, str(script), "--scenarios", str(scenarios)),
        *("--results-dir", str(folder / "results"), *words),
    ]


def environment(folder: Path, **more: str) -> dict[str, str]:
    own = {"VLLM_BENCH_CACHE": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    return {**os.environ, **own, **more}


def run_bench(
    folder: Path, scenarios: Path, *words: str, script: Path = BENCH, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(folder, scenarios, *words, script=script),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=folder,  # from any folder
        env=environment(folder, **env),
    )


def start_bench(
    folder: Path, scenarios: Path, *words: str, script: Path = BENCH, **env: str
) -> subprocess.Popen[str]:
    """Start it, and go on meanwhile."""
    return subprocess.Popen(
        command(folder, scenarios, *words, script=script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder, **env),
        start_new_session=True,  # a process group of its own
    )


def rows(folder: Path) -> pd.DataFrame:
    """Return the rows of the one run in a folder."""
    (path,) = (folder / "results").glob("*.csv")
    return read_frame(path)


def info(folder: Path) -> Any:
    """Return what the one run in a folder was."""
    (path,) = (folder / "results").glob("*.json")
    return read_run_info(path)


def assert_ran(done: subprocess.CompletedProcess[str]) -> None:
    """Every request went well; the exit code says what the verdict says.

    A busy machine may have spoilt the run (loop lag, send lag), and then it is INVALID by right.
    """
    assert ", 0 failed" in done.stderr, done.stderr
    verdicts = [line for line in done.stdout.splitlines() if line.startswith("Verdict: ")]
    assert verdicts, done.stdout  # gaps alone may be INVALID, too: that spoils no run
    assert done.returncode == (4 if "INVALID" in str(verdicts) else 0), done.stdout
