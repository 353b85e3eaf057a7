"""A trace that names its blocks: the server's prefix cache finds what the trace's own says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sim.simulated import Simulated
from tests.support.running import info, rows, run_bench, write_scenario

pytestmark = pytest.mark.process

FLAGS = ("--profile", "tiny-cpu", "--model", "tiny", "--num-gpu-blocks", "4000")
PATHS = ((1, 2, 3), (1, 2, 4), (1, 2, 5, 6), (7, 8), (1, 2, 5, 6), (7, 9), (7, 10, 11), (1, 12))


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_the_servers_cache_finds_the_traces_own_share(tmp_path: Path, endpoint: str) -> None:
    # As in Mooncake's trace, an id is never at two places, nor once whole and once a part.
    trace = tmp_path / "trace.jsonl"
    lines = (
        {
            "timestamp": 400 * n,
            "input_length": 512 * len(path) - 100,
            "output_length": 2,
            "hash_ids": path,
        }
        for n, path in enumerate(PATHS)
    )
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Simulated(*FLAGS, "--max-model-len", "4096", "--enable-prompt-tokens-details") as server:
        scenario = write_scenario(
            tmp_path,
            model="tiny",
            base_url=f"{server.url}/v1",
            endpoint=endpoint,
            trace=str(trace),
            max_new_tokens=2,
        )
        done = run_bench(tmp_path, scenario)
        assert done.returncode in (0, 4), done.stderr
    found = rows(tmp_path)
    assert found["error"].isna().all()
    assert (found["prompt_tokens_planned"] == found["prompt_tokens"]).all()
    share = found["cached_tokens"].sum() / found["prompt_tokens"].sum()
    # What is found of a prompt is whole pages of 16 tokens: at most 1 % of these.
    assert share == pytest.approx(info(tmp_path).plan["trace_shared_share"], abs=0.015)
