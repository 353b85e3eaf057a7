"""Planted on the simulator: garbled answers are found, other words are a note, a sound server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.answers.lost import CODES
from vllm_bench.answers.side import Against, AnswersSide
from vllm_bench.answers.together import with_answers_judged
from vllm_bench.records.find_runs import find_runs, load_run
from vllm_bench.summary.summary import RunSummary, summarize

from tests.sim.simulated import Simulated
from tests.support.running import run_bench, run_script

pytestmark = pytest.mark.process
SPEED = ("--exact", "--ttft-ms", "20", "--itl-ms", "0.2", "--reasoning")
FLAGS = (*SPEED, "--served-model-name", "simulated")


def asked(folder: Path, url: str, *words: str, **settings: Any) -> tuple[int, list[RunSummary]]:
    """Ask 50 questions alone and at each level; return the exit code, and the runs in order."""
    whole = {
        **{"base_url": f"{url}/v1", "model": "simulated", "max_new_tokens": 128},
        **{"concurrencies": [4, 32], "quality": {"questions": 50}, "warmup_requests": 1},
        **settings,
    }
    path = folder / "scenarios.yaml"
    path.write_text(json.dumps({"scenarios": {"answers": whole}}), encoding="utf-8")
    done = run_bench(folder, path, "--plain", *words)
    assert "Traceback" not in done.stderr, done.stderr
    rows = find_runs([], folder / "results").paths
    runs = with_answers_judged([summarize(load_run(path)) for path in rows])
    return done.returncode, sorted(runs, key=lambda run: run.began_s)


def found(runs: list[RunSummary]) -> list[tuple[str, float, list[str]]]:
    """Return what is found about the answers of each run, with its pass and its load."""
    return [
        (
            run.answers.asked,
            run.load.value,
            [f"{f.severity.name} {f.code}" for f in run.verdict.findings if f.code in CODES],
        )
        for run in runs
        if run.answers
    ]


def of(run: RunSummary) -> tuple[AnswersSide, Against]:
    assert run.answers is not None
    assert run.answers.against is not None
    return run.answers, run.answers.against


def test_answers_garbled_above_8_in_flight_are_found(tmp_path: Path) -> None:
    with Simulated(*FLAGS, "--faults", "garbled=8") as server:
        code, runs = asked(tmp_path, server.url, "--texts")
    assert found(runs) == [
        *(("alone", 1, []), ("load", 4, []), ("load", 32, ["INVALID answers_lost"])),
    ]
    assert code == 4
    side, against = of(runs[2])
    assert of(runs[1])[0].match == against.alone_match == 1
    assert against.lost == 50 - side.right > 4
    texts = list((tmp_path / "results" / "answers").glob("*.jsonl"))
    assert len(texts) == 3
    said = [json.loads(line) for line in texts[0].read_text(encoding="utf-8").splitlines()]
    assert len(said) == 50
    assert all("####" in one["text"] for one in said)


def test_other_words_are_a_note_and_a_second_pass_alone_is_shown(tmp_path: Path) -> None:
    quality = {"questions": 50, "again": True}
    with Simulated(*FLAGS, "--faults", "reworded=2") as server:
        _, runs = asked(tmp_path, server.url, quality=quality, concurrencies=[32])
    assert found(runs) == [
        *(("alone", 1, []), ("load", 32, ["NOTE answers_changed"]), ("again", 1, [])),
    ]
    _, load = of(runs[1])
    assert load.texts_changed > 25
    assert load.lost == load.changed == 0
    assert of(runs[2])[1].texts_changed == 0


def test_answers_that_are_cut_give_no_verdict_and_a_run_goes_with_its_answers(
    tmp_path: Path,
) -> None:
    # A sound server, whose thoughts leave no room for most answers; an open loop.
    settings = {"concurrencies": [], "request_rates": [50], "max_new_tokens": 20}
    with Simulated(*FLAGS) as server:
        _, runs = asked(tmp_path, server.url, **settings)
    assert found(runs) == [("alone", 1, []), ("load", 50, ["NOTE answers_unjudged"])]
    assert runs[0].answers is not None
    assert runs[0].answers.cut > 25
    assert of(runs[1])[1].lost == 0
    words = ("--results-dir", tmp_path / "results", "--rm", runs[0].run_id)
    done = run_script("bench/runs.py", *words)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "results").glob(f"*/{runs[0].run_id}*"))


def test_a_file_of_questions_is_asked_as_a_dry_run_says(tmp_path: Path) -> None:
    rows = [{"question": f"Compute {i} * 7.", "answer": f"####{7 * i}"} for i in range(20)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"model": "m", "max_new_tokens": 32, "base_url": "http://localhost:9/v1"}
    settings |= {"concurrencies": [2], "quality": {"set": f"file:{path}", "questions": 20}}
    (tmp_path / "s.yaml").write_text(json.dumps({"scenarios": {"q": settings}}), encoding="utf-8")
    done = run_bench(tmp_path, tmp_path / "s.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "asked alone" in done.stdout
    path.unlink()
    done = run_bench(tmp_path, tmp_path / "s.yaml", "--dry-run")
    assert done.returncode == 2
    assert "mine.jsonl" in done.stderr
