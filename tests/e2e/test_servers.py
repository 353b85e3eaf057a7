"""The scripts as a person types them, against real vLLM and the simulator: `make test-vllm`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from vllm_bench.records.beside.families import COUNTERS
from vllm_bench.records.run_info import read_run_info
from vllm_bench.vllm.page import samples, summed

from tests.e2e.conftest import Served
from tests.e2e.scripts import assert_ran, bench_words, only, rows, script, start_bench
from tests.support.beside.waiting import LIMIT_S
from tests.support.frames import read_frame

pytestmark = [pytest.mark.vllm, pytest.mark.process]

SMOKE_TEST = """
defaults:
  base_url: "{base_url}"
  model: "tiny"
  temperature: 0.0
  stream: true
  dataset: "{dataset}"

scenarios:
  smoke_test:
    description: "Minimal smoke test"
    prefill_tokens: 256
    max_new_tokens: 128
    concurrencies: [8]
    num_requests: 50
"""


def test_the_smoke_test_from_clone_to_pictures(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    scenarios = tmp_path / "test_scenario.yaml"
    scenarios.write_text(SMOKE_TEST.format(base_url=server.base_url, dataset=dataset))
    results = str(tmp_path / "results")
    before = summed(samples(server.metrics(), COUNTERS))
    done = script(
        *(tmp_path, "bench.py", "--scenarios", str(scenarios)),
        *("--name", "smoke_test", "--results-dir", results),
    )
    assert_ran(done)
    run = only(tmp_path, "smoke_test-cc8-pref256-max128-*.csv")
    assert len(run.read_text().splitlines()) == 51
    found = read_frame(run)
    assert found["error"].isna().all()
    assert (found["ttft_ms"] > 0).all()
    assert (found["latency_ms"] >= found["ttft_ms"]).all()

    info = read_run_info(run.with_suffix(".json"))
    after = info.server_counters["after"]
    assert after is not None
    others = ("prefix_cache", "preemptions", "process_start_time")
    ledger = [name for name in after if not any(other in name for other in others)]
    counted = {name: after[name] - before.get(name, 0.0) for name in ledger}
    assert counted == {
        "vllm:generation_tokens_total": found["completion_tokens"].sum()
        + info.unmeasured["completion_tokens"],
        "vllm:prompt_tokens_total": found["prompt_tokens"].sum() + info.unmeasured["prompt_tokens"],
        "vllm:request_success_total": 50 + 8,  # each stream's warm-up
    }
    assert info.prompts["counted_by"] == "server"
    assert info.server["version"]
    assert info.server["system_fingerprint"]

    assert script(tmp_path, "summarize.py", str(run)).returncode == 0
    own = tmp_path / "results" / "summaries" / run.stem  # of one run, beside that of all
    assert "smoke_test" in own.with_name(f"{run.stem}.md").read_text()
    assert len(own.with_name(f"{run.stem}.csv").read_text().splitlines()) == 2
    assert script(tmp_path, "plot.py", str(run)).returncode == 0
    for picture in ("ttft_cdf", "latency_cdf"):
        png = tmp_path / "results" / "plots" / f"{run.stem}_{picture}.png"
        assert png.read_bytes().startswith(b"\x89PNG")


def test_prompts_are_as_long_as_the_server_counts_them(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    words = bench_words(
        tmp_path, server, dataset, prefill_tokens=700, prompt_fit="packed", num_requests=12
    )
    assert_ran(script(tmp_path, "bench.py", *words))
    tokens = rows(tmp_path)["prompt_tokens"]
    assert tokens.between(700 * 0.98, 700 * 1.02).all(), sorted(tokens)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_exact_lengths_are_exact(
    tmp_path: Path, server: Served, dataset: str, endpoint: str
) -> None:
    words = bench_words(tmp_path, server, dataset, endpoint=endpoint, ignore_eos=True)
    assert_ran(script(tmp_path, "bench.py", *words))
    assert (rows(tmp_path)["completion_tokens"] == 64).all()


def test_a_model_that_is_not_served_is_named_with_those_that_are(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    words = bench_words(tmp_path, server, dataset, model="giant")
    done = script(tmp_path, "bench.py", *words)
    assert done.returncode == 2
    assert {"giant;", "tiny:"} <= set(done.stderr.split())
    assert not list((tmp_path / "results").glob("*.csv"))


def test_a_prompt_over_the_context_fails_in_the_servers_own_words(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    words = bench_words(
        tmp_path, server, dataset, max_new_tokens=3000, num_requests=6, warmup_requests=0
    )
    done = script(tmp_path, "bench.py", *words)
    assert done.returncode == 4, done.stderr
    assert "max_model_len of 2048" in done.stderr
    found = rows(tmp_path)
    assert set(found["error_kind"]) == {"http_4xx"}
    assert found["error"].str.contains("2048").all()


def test_ctrl_c_keeps_every_row(tmp_path: Path, server: Served, dataset: str) -> None:
    process = start_bench(tmp_path, bench_words(tmp_path, server, dataset, num_requests=2000))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    found = rows(tmp_path)
    assert 8 <= len(found) < 2000
    assert found["error"].isna().all()
    assert "interrupted" in out
    assert read_run_info(only(tmp_path, "*.json")).status == "interrupted"
