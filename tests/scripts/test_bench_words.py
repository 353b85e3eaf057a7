"""What bench.py says before and after its runs: commands to paste, what is missing or whole."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.far_end import TinyVllm
from tests.support.running import assert_ran, run_bench, write_scenario

Scenarios = Callable[..., Path]


@pytest.fixture
def scenarios(tmp_path: Path, tiny_vllm: TinyVllm) -> Scenarios:
    settings = {
        "base_url": tiny_vllm.base_url,
        "model": "tiny",
        "max_new_tokens": 4,
        "concurrencies": [3],
        "num_requests": 12,
    }
    return lambda **changes: write_scenario(tmp_path, **{**settings, **changes})


@pytest.mark.parametrize("levels", [[2], [1, 2, 3, 4, 5]])
def test_the_commands_to_read_on_work_when_pasted(
    tmp_path: Path, scenarios: Scenarios, levels: list[int]
) -> None:
    folder = tmp_path / "my results"
    done = run_bench(tmp_path, scenarios(concurrencies=levels), "--results-dir", str(folder))
    assert_ran(done)
    told = re.findall(r"python (\S+/bench/\w+\.py .*)", done.stdout)
    assert [Path(words.split()[0]).name for words in told] == ["summarize.py", "plot.py"]
    pasted = subprocess.run(
        [sys.executable, *shlex.split(told[0])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (pasted.returncode, pasted.stderr) == (0, "")
    assert len((folder / "summary.csv").read_text().splitlines()) == 1 + len(levels)
    assert len(told[0]) < len(str(folder)) + 120


def test_a_dry_run_that_resumes_says_what_is_whole(tmp_path: Path, scenarios: Scenarios) -> None:
    assert_ran(run_bench(tmp_path, scenarios(concurrencies=[1])))
    (rows,) = (tmp_path / "results").glob("*.csv")
    both = scenarios(concurrencies=[1, 2])
    done = run_bench(tmp_path, both, "--dry-run", "--resume")
    assert done.stdout.startswith("one: 1 run, 12 measured requests; 1 whole already\n")
    assert done.stdout.count("whole: not run again") == 1
    assert f"    {rows.stem} is whole: not run again\n" in done.stdout
    anew = run_bench(tmp_path, both, "--dry-run")
    assert anew.stdout.startswith("one: 2 runs, 24 measured requests\n")
    assert "whole" not in anew.stdout
    away = scenarios(concurrencies=[1], base_url="http://127.0.0.1:9/v1")
    alone = run_bench(tmp_path, away, "--dry-run", "--resume")
    assert "which runs are whole can't be told without their server" in alone.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "file:gone.txt"}, "dataset: gone.txt: no such file"),
        (
            {"trace": "gone.csv", "concurrencies": [], "num_requests": None},
            "trace: gone.csv: no such file",
        ),
    ],
)
def test_a_file_that_a_scenario_names_and_that_is_missing_is_wrong_usage(
    tmp_path: Path, scenarios: Scenarios, changes: dict[str, object], said: str
) -> None:
    # Told before anybody waits for a server that isn't there.
    path = scenarios(base_url="http://127.0.0.1:9/v1", **changes)
    for words in ((), ("--dry-run",)):
        done = run_bench(tmp_path, path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"bench.py: scenario one: {said}\n"


def test_prompts_that_cannot_be_had_name_the_scenario_and_the_data_set(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    (tmp_path / "talks.jsonl").write_text('{"turns": ["Hello."]}\n')
    talks = {"dataset": "file:talks.jsonl", "conversations": {"turns": 4}}
    done = run_bench(tmp_path, scenarios(**talks), "--dry-run")
    assert done.returncode == 1
    assert "scenario one: dataset file:talks.jsonl: conversations: none of 1 has 4" in done.stderr
    (tmp_path / "empty.txt").write_text("")
    done = run_bench(tmp_path, scenarios(dataset="file:empty.txt"), "--dry-run")
    assert done.stderr == "bench.py: scenario one: file:empty.txt: empty: no prompts\n"


def test_a_start_that_is_refused_leaves_no_folder_and_takes_none_away(
    tmp_path: Path, scenarios: Scenarios
) -> None:
    (tmp_path / "mine").mkdir()
    for folder in ("new/results", "mine"):
        done = run_bench(
            tmp_path, scenarios(model="another"), "--results-dir", str(tmp_path / folder)
        )
        assert done.returncode == 2, done.stderr
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "mine").is_dir()
