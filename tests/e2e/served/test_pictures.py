"""Pictures, the server's own profiler and traces, on real vLLM and on the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.serverside.said import server_said
from vllm_bench.summary.summary import facts_of, summarize

from tests.e2e.conftest import COMMANDS, Served, start, tiny_model
from tests.e2e.scripts import assert_ran, bench_words, only, rows, script
from tests.prompts.test_images import asked, data_url, file_of, png

pytestmark = [pytest.mark.vllm, pytest.mark.process]

OF_A_PICTURE = 108  # tokens of one of 8 x 8 pixels, on either server
TEXT = "Which colour has picture {}?"


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module", params=COMMANDS)
def seeing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, traces: Path
) -> Iterator[Served]:
    kind, folder = request.param, tmp_path_factory.mktemp(f"{request.param}_sees")
    profiler = json.dumps({"profiler": "torch", "torch_profiler_dir": str(traces)})
    words, more = ["--profiler-config", profiler], {}
    if kind == "vllm":
        words += ["--limit-mm-per-prompt", '{"image": 2}']
        more = {"VLLM_CPU_MODEL": tiny_model(folder / "model", "--sees")}
    served = start(kind, folder, *words, **more)
    yield served
    served.kill()


def pictures(folder: Path) -> str:
    """Return a data set of one picture a prompt, and of two in each fourth."""
    made = [
        asked(*[data_url(png(red))] * (1 + (red % 4 == 0)), text=TEXT.format(red))
        for red in range(1, 25)
    ]
    return f"file:{file_of(folder, *made)}"


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_pictures_are_sent_and_counted_and_requests_carry_a_trace(
    tmp_path: Path, seeing: Served, endpoint: str
) -> None:
    words = bench_words(tmp_path, seeing, pictures(tmp_path), endpoint=endpoint, ignore_eos=True)
    assert_ran(script(tmp_path, "bench.py", *words, "--traceparent"))
    found = rows(tmp_path)
    assert found["error"].isna().all()
    assert (found["prompt_tokens"] == found["prompt_tokens_planned"]).all()
    assert sorted((found["prompt_tokens"] // OF_A_PICTURE).tolist()) == [1] * 18 + [2] * 6
    assert found["trace_id"].nunique() == len(found)
    run = load_run(only(tmp_path, "*.csv"))
    said = server_said(facts_of(run))
    assert said.mm_cache_hit_rate is not None


def test_a_profile_lies_on_the_servers_disk_and_the_run_is_known_for_it(
    tmp_path: Path, seeing: Served, traces: Path
) -> None:
    before = set(traces.iterdir())
    words = bench_words(
        tmp_path, seeing, pictures(tmp_path), num_requests=None, duration_s=3, max_new_tokens=16
    )
    done = script(tmp_path, "bench.py", *words, "--profile", "0.3")
    assert_ran(done)
    run = load_run(only(tmp_path, "*.csv"))
    assert "profiled" in {finding.code for finding in summarize(run).verdict.findings}
    profile = json.loads(only(tmp_path, "*.json").read_text())["observed"]["profile"]
    assert profile["problem"] is None
    assert profile["asked_s"] <= profile["from_s"] < profile["to_s"] <= profile["written_s"]
    made = {path.name for path in set(traces.iterdir()) - before}
    assert ("simulator" in seeing.log.name) != any(".pt.trace.json" in name for name in made)
