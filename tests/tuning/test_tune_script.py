"""tune.py as a person runs it, against the simulator: its answer, its files, what breaks it off."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.env_file import parse_env

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.reading import one_line
from tests.support.running import ROOT, write_scenario

pytestmark = pytest.mark.process

SECRET = "sk-xSECRETx"
LOAD = {"concurrencies": [2, 4], "num_requests": 24, "max_new_tokens": 8, "model": "tiny"}
AXES = {"MAX_NUM_SEQS": [1, 8]}
WITH_ROWS = (0, 4)  # a busy machine may spoil short runs, and then it says so


class Tuned:
    """A folder with experiments, and what tune.py made of them."""

    def __init__(self, folder: Path, load: dict[str, Any] | None = None, **raw: Any) -> None:
        self.folder = folder
        self.model = f"m{folder.stat().st_ino}x"  # by which its servers are found
        scenarios = write_scenario(folder, **{**LOAD, **(load or {})})
        base = {"SIMULATOR": "tiny-cpu", "MODEL": self.model}
        asked = {"scenario": "one", "scenarios": scenarios.name, "base": base, "axes": AXES, **raw}
        (folder / "e.yaml").write_text(json.dumps(asked), encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        script = str(ROOT / "bench" / "tune.py")
        results = str(self.folder / "results")
        own = [str(self.folder / "e.yaml"), "--results-dir", results, "--plain"]
        return [sys.executable, script, *own, *words]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=LIMIT_S,
            env={**os.environ, **env},
        )

    @property
    def out(self) -> Path:
        (found,) = (self.folder / "results" / "tune").iterdir()
        return found

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.out / "tune.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def servers(self) -> list[int]:
        """The processes whose command names the model."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if self.model in text and "simulator.py" in text:
                found.append(int(path.parent.name))
        return found


def test_two_configurations_are_tuned_to_an_answer(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path)
    done = tuned.run("--pairs", "1", VLLM_API_KEY=SECRET)
    assert done.returncode in WITH_ROWS, done.stderr
    rows = tuned.rows
    assert [(row["configuration"], row["stage"], row["visit"]) for row in rows[:4]] == [
        *[("seqs 1", "full", "")] * 2,
        *[("seqs 8", "full", "")] * 2,
    ]
    turns = [row for row in rows if row["stage"] == "again"]
    if turns:  # both could be measured
        assert [row["visit"] for row in turns] == ["1", "2"]
        assert {row["configuration"] for row in turns} == {"seqs 1", "seqs 8"}
    assert all(float(row["ready_s"]) > 0 and int(row["kv_cache_tokens"]) > 0 for row in rows)
    assert not any(row["problem"] for row in rows)
    infos = [json.loads(p.read_text()) for p in (tuned.out / "runs").glob("*.json")]
    assert {info["experiment"]["kind"] for info in infos} == {"tune"}
    assert {info["server"].get("settings", {}).get("max_num_seqs") for info in infos} <= {
        1,
        8,
        None,
    }
    if done.returncode == 0:
        assert "cannot tell between" in done.stdout  # of one pair
        best = parse_env((tuned.out / "best.env").read_text(encoding="utf-8"))
        assert best["MAX_NUM_SEQS"] in ("1", "8")
        assert (best["MODEL"], best["SIMULATOR"]) == (tuned.model, "tiny-cpu")
    assert "simulator" in (tuned.out / "tune.md").read_text(encoding="utf-8")
    everything = [p.read_bytes() for p in tuned.out.rglob("*") if p.is_file()]
    assert not any(SECRET.encode() in data for data in everything)
    assert SECRET not in done.stdout + done.stderr
    assert tuned.servers() == []


def test_a_dry_run_lists_configurations_and_time_and_starts_nothing(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, axes={"MAX_NUM_SEQS": [1, 2, 4, 8]})
    done = tuned.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert all(f"MAX_NUM_SEQS={n}" in done.stdout for n in (1, 2, 4, 8))
    assert " min" in done.stdout or " s" in done.stdout
    assert not (tmp_path / "results").exists()


def test_a_configuration_that_dies_at_its_start_is_a_row(tmp_path: Path) -> None:
    axis = {"EXTRA_ARGS": {"fine": "", "broken": "--no-such-flag"}}
    tuned = Tuned(tmp_path, {"concurrencies": [2]}, axes=axis)
    done = tuned.run()
    assert done.returncode in WITH_ROWS, done.stderr
    (dead,) = [row for row in tuned.rows if row["configuration"] == "broken"]
    assert "--no-such-flag" in dead["problem"]
    assert dead["run_id"] == dead["ready_s"] == ""
    assert {row["configuration"] for row in tuned.rows} == {"fine", "broken"}


def test_where_nothing_starts_the_script_failed(tmp_path: Path) -> None:
    axis = {"EXTRA_ARGS": ["--no-such-flag", "--nor-this"]}
    tuned = Tuned(tmp_path, axes=axis)
    done = tuned.run()
    assert done.returncode == 1, done.stderr
    assert not (tuned.out / "best.env").exists()
    assert len(tuned.rows) == 2


@pytest.mark.parametrize(
    ("raw", "words", "said"),
    [
        ({"axes": {"MAX_NUM_SEQS": [0, 8]}}, (), "MAX_NUM_SEQS=0"),
        ({"axes": {"EXTRA_ARGS": ["'a", "b"]}}, (), "quote"),
        ({"base": {"SIMULATOR": "tinycpu"}}, (), "SIMULATOR=tinycpu"),
        ({"base": "missing.env"}, (), "missing.env"),
        ({"scenario": "onee"}, (), "one?"),
        ({"scenarios": "missing.yaml"}, (), "missing.yaml"),
        ({"axes": {"MAX_NUM_SEKS": [1, 2]}}, (), "MAX_NUM_SEQS?"),
        ({"aim": "capacity"}, (), "slo"),
        ({}, ("--axis", "MAX_NUM_SEQS"), "--axis"),
        ({}, ("--set", "seeed=1"), "seed?"),
        ({}, ("--pairs", "-1"), "--pairs"),
        ({}, ("--aim", "speed"), "--aim"),
    ],
)
def test_what_cant_work_is_wrong_usage_before_anything_starts(
    tmp_path: Path, raw: dict[str, Any], words: tuple[str, ...], said: str
) -> None:
    done = Tuned(tmp_path, **raw).run(*words)
    assert done.returncode == 2, done.stderr
    assert said in one_line(done.stderr.splitlines()[-1])
    assert not (tmp_path / "results").exists()


def test_ctrl_c_stops_the_server_keeps_the_rows_and_resume_goes_on(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, {"num_requests": 60, "max_new_tokens": 32})
    words = ("--pairs", "0")
    process = subprocess.Popen(
        tuned.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # The first configuration is whole, and the second is on its way.
    wait_until(lambda: bool(list(tmp_path.glob("results/tune/*/tune.csv"))))
    wait_until(lambda: bool(tuned.servers()))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert tuned.servers() == []
    assert {row["configuration"] for row in tuned.rows} == {"seqs 1"}
    done = tuned.run(*words, "--resume")
    assert done.returncode in WITH_ROWS, done.stderr
    assert "seqs 1: made before" in done.stderr
    assert [row["configuration"] for row in tuned.rows] == ["seqs 1"] * 2 + ["seqs 8"] * 2


def test_the_server_of_a_killed_script_is_ended_by_the_next_one(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, {"num_requests": 2000, "max_new_tokens": 32})
    process = subprocess.Popen(
        tuned.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: bool(list(tmp_path.glob("results/tune/*/runs/*.csv"))))
    process.kill()
    process.wait()
    before = tuned.servers()
    assert before
    done = tuned.run("--axis", "MAX_NUM_SEQS=1,2", "--set", "num_requests=8", "--pairs", "0")
    assert done.returncode in WITH_ROWS, done.stderr
    assert str(before[0]) in done.stderr
    assert tuned.servers() == []


def test_a_secret_of_the_base_reaches_no_file(tmp_path: Path) -> None:
    tuned = Tuned(tmp_path, {"concurrencies": [2]}, base="base.env")
    (tmp_path / "base.env").write_text(
        f"SIMULATOR=tiny-cpu\nMODEL={tuned.model}\nVLLM_API_KEY={SECRET}\nHF_TOKEN={SECRET}2\n",
        encoding="utf-8",
    )
    done = tuned.run("--pairs", "0")
    assert done.returncode in WITH_ROWS, done.stderr
    assert all(row["run_id"] for row in tuned.rows)
    everything = [p.read_bytes() for p in tuned.out.rglob("*") if p.is_file()]
    assert not any(SECRET.encode() in data for data in everything)
    assert SECRET not in done.stdout + done.stderr
