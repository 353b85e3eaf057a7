"""What a run sends of a person's own file, and what it says of the rest."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.running import command, tiny_scenario

pytestmark = pytest.mark.process

PROMPTS = ["Hi", "  and  blanks ", "word " * 700 + "end", *(f"Number {n}?" for n in range(5))]


def bench(folder: Path, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    rows = [{"prompt": text} for text in [*PROMPTS, "", "Hi"]]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"dataset": f"file:{folder}/mine.jsonl", "concurrencies": [2], **settings}
    path = tiny_scenario(folder, **settings)
    return subprocess.run(
        command(folder, path, *words), capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


def test_every_prompt_of_a_file_is_sent_unchanged_and_the_rest_is_told(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    done = bench(tmp_path, base_url=tiny_vllm.base_url, num_requests=len(PROMPTS))
    sent = [r.json for r in tiny_vllm.requests if r.path == "/v1/chat/completions"]
    assert sorted(body["messages"][-1]["content"] for body in sent) == sorted(PROMPTS), done.stderr
    assert any("1 empty, 1 repeated" in line for line in done.stderr.splitlines())
    (path,) = (tmp_path / "results").glob("*.json")
    info = read_run_info(path)
    assert info.prompts["left_out"] == {"empty": 1, "repeated": 1}
    assert info.prompts["distinct"] == info.prompts["source_count"] == len(PROMPTS)


def test_a_length_that_a_scenario_asks_for_is_told_before_the_run(tmp_path: Path) -> None:
    done = bench(
        tmp_path, "--dry-run", base_url="http://127.0.0.1:9/v1", num_requests=20, prefill_tokens=4
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "looked at" in line]
    assert len(told) == 1
    assert {"1 shorter than 2 tokens", "1 longer than 8 tokens"} == set(
        told[0].partition("left out: ")[2].split(", ")
    )
