"""A trace that names its blocks: the server's prefix cache finds what the trace's own says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import summarize

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
            "timestamp": 100 * n,
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
            max_in_flight=1,  # each finds what those before have left
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
    possible = found["possible_cached_tokens"].sum() / found["prompt_tokens"].sum()
    # The set repeats one sentence: beginnings of blocks may be alike by chance.
    assert share == pytest.approx(possible, abs=0.015)


@pytest.mark.parametrize("details", [True, False], ids=["replies", "counters"])
def test_wanted_possible_and_served_are_within_two_points(tmp_path: Path, details: bool) -> None:
    flags = ("--enable-prompt-tokens-details",) if details else ()
    with Simulated(*FLAGS, *flags, "--max-model-len", "4096", "--block-size", "32") as server:
        scenario = write_scenario(
            tmp_path,
            model="tiny",
            base_url=f"{server.url}/v1",
            dataset="sample",
            concurrencies=[6],
            num_requests=60,
            warmup_requests=3,
            prefill_tokens=1600,
            prefix={"groups": 5, "hit_rate": 0.75, "share": 0.9, "primed": True},
            system_prompt="Answer briefly and in plain words, as to a friend who is in a hurry.",
            max_new_tokens=2,
        )
        done = run_bench(tmp_path, scenario)
        assert done.returncode in (0, 4), done.stderr
    (path,) = (tmp_path / "results").glob("*.csv")
    summary = summarize(load_run(path))
    shares = summary.prefix
    assert shares.served_by == ("replies" if details else "counters")
    assert shares.wanted_share == 0.75
    assert shares.possible_share == pytest.approx(0.75, abs=0.02)
    assert shares.served_share == pytest.approx(shares.possible_share, abs=1e-9)
    assert set(rows(tmp_path)["prompt_tokens"]) == {1600}
    sent = info(tmp_path).unmeasured
    assert (sent["warmup"], sent["priming"]) == (3, 5)
    codes = {finding.code for finding in summary.verdict.findings}
    assert not codes & {"prefix_not_served", "prefix_not_as_wanted"}
