"""Every shape of load against real vLLM and the simulator: whole, and by the server's own count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from vllm_bench.answers.lost import CODES
from vllm_bench.answers.together import with_answers_judged
from vllm_bench.records.beside.families import HISTOGRAMS
from vllm_bench.records.find_runs import find_runs, load_run
from vllm_bench.records.run_info import RunInfo, read_run_info
from vllm_bench.summary.summary import facts_of, summarize

from tests.e2e.conftest import Served
from tests.e2e.scripts import assert_ran, bench_words, only, rows, script
from tests.machines.running import over

pytestmark = [pytest.mark.vllm, pytest.mark.process]

OPEN = {"concurrencies": [], "request_rates": [8.0]}


def run(
    folder: Path, server: Served, dataset: str, *words: str, **changes: Any
) -> tuple[RunInfo, pd.DataFrame]:
    """Run bench.py once; return what it was and its rows, which the server's ledger must match."""
    folder.mkdir(exist_ok=True)
    scenario = bench_words(folder, server, dataset, **changes)
    assert_ran(script(folder, "bench.py", *scenario, *words))
    info, found = read_run_info(only(folder, "*.json")), rows(folder)
    beside = info.unmeasured
    assert found["error"].isna().all()
    assert moved(info) == {
        "generation_tokens": found["completion_tokens"].sum() + beside["completion_tokens"],
        "prompt_tokens": found["prompt_tokens"].sum() + beside["prompt_tokens"],
        "request_success": len(found) + beside["warmup"] + beside["tail"],
    }
    assert beside["failed"] == 0
    check_said(only(folder, "*.csv"), info)
    return info, found


def check_said(path: Path, info: RunInfo) -> None:
    """Check that all families are kept, and that their figures are those of the ledger."""
    run = load_run(path)
    facts = facts_of(run)
    assert facts.said is not None
    names = {one.name for one in facts.said.series}
    real = "simulator" not in str(info.server["version"])
    assert len(names) >= (100 if real else 30)
    assert f"{HISTOGRAMS['itl']}_bucket" in names
    said, grown = summarize(run, facts).server_said, moved(info)
    assert (said.engines, said.counters_absent, said.rejected) == (1, None, None)
    sources = (said.prompt_computed, said.prompt_from_cache, said.prompt_from_transfer)
    assert sum(tokens or 0 for tokens in sources) == grown["prompt_tokens"]
    assert sum((said.finished or {}).values()) == grown["request_success"]
    absent = (said.spec_acceptance_length, said.lora_running_peak, said.external_hit_rate)
    assert absent == (None, None, None)


def moved(info: RunInfo, *names: str) -> dict[str, float]:
    """Return by how much the server's counters moved."""
    before, after = info.server_counters["before"], info.server_counters["after"]
    assert before is not None
    assert after is not None
    wanted = names or ("generation_tokens", "prompt_tokens", "request_success")
    return {n: after[f"vllm:{n}_total"] - before.get(f"vllm:{n}_total", 0.0) for n in wanted}


def hit_rate(info: RunInfo) -> float:
    found = moved(info, "prefix_cache_queries", "prefix_cache_hits")
    return found["prefix_cache_hits"] / found["prefix_cache_queries"]


def test_two_machines_send_one_load(tmp_path: Path, server: Served, dataset: str) -> None:
    load = {"concurrencies": [5], "num_requests": 30}
    info, found = run(tmp_path, server, dataset, *over(2), "--listen", "127.0.0.1", **load)
    assert sorted(found["request_index"]) == list(range(30))
    by_stream = found.groupby(found["request_index"] % 5)["machine"]
    assert by_stream.nunique().eq(1).all()
    machines = info.client_health["machines"]
    assert {machine["machine"] for machine in machines} == {*found["machine"]}
    assert [machine["lost"] for machine in machines] == [None, None]
    assert sum(machine["rows"] for machine in machines) == 30


def test_a_poisson_run_is_sent_by_its_plan(tmp_path: Path, server: Served, dataset: str) -> None:
    info, found = run(tmp_path, server, dataset, **OPEN)
    assert (info.plan["shape"], info.request_rate, len(found)) == ("poisson", 8.0, 24)
    planned = pd.read_csv(tmp_path / "results" / "plans" / f"{info.run_id}.csv")
    meant = found.sort_values("request_index")["t_scheduled_s"].to_numpy()
    assert meant == pytest.approx(planned["t_scheduled_s"].to_numpy(), abs=2e-6)
    assert (found["t_sent_s"] >= found["t_scheduled_s"]).all()


def test_a_trace_is_replayed_with_its_lengths(tmp_path: Path, server: Served, dataset: str) -> None:
    trace = tmp_path / "trace.csv"
    lengths = [(0.0, 300, 20), (0.4, 1200, 8), (0.5, 64, 33), (1.2, 2040, 9)]  # the last: too long
    body = "".join(f"2023-11-16 18:15:{46 + at:.7f},{p},{g}\n" for at, p, g in lengths)
    trace.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{body}")
    info, found = run(
        *(tmp_path, server, dataset),
        **{"concurrencies": [], "num_requests": None, "trace": str(trace), "ignore_eos": True},
    )
    found = found.sort_values("request_index")
    assert list(found["completion_tokens"]) == [20, 8, 33]
    assert list(found["prompt_tokens"]) == pytest.approx([300, 1200, 64], rel=0.021)
    assert list(found["t_scheduled_s"]) == pytest.approx([0.0, 0.4, 0.5], abs=1e-6)
    assert any("1 of 4" in note for note in info.notes)


def test_turns_carry_the_history_and_the_cache_finds_it(
    tmp_path: Path, server: Served, dataset: str
) -> None:
    info, found = run(
        *(tmp_path, server, dataset),
        **{"conversations": {"turns": 3}, "concurrencies": [2], "num_requests": 12},
    )
    assert sorted(found["turn"]) == sorted([1, 2, 3] * 4)
    for _, talk in found.groupby("conversation_id"):
        turns = talk.sort_values("turn")
        assert turns["prompt_tokens"].is_monotonic_increasing
        assert (turns["t_sent_s"].iloc[1:].array >= turns["t_end_s"].iloc[:-1].array).all()
    assert hit_rate(info) > 0.2  # a turn begins as the one before it did
    assert script(tmp_path, "summarize.py", str(tmp_path / "results")).returncode == 0
    summary = pd.read_csv(tmp_path / "results" / "summary.csv")
    assert summary["server_prefix_cache_hit_rate"].iloc[0] == pytest.approx(
        hit_rate(info), abs=1e-3
    )


@pytest.mark.parametrize(("cache", "hits"), [("natural", True), ("run", False)])
def test_a_rerun_hits_the_cache_under_natural_and_not_under_run(
    tmp_path: Path, server: Served, dataset: str, cache: str, hits: bool
) -> None:
    settings = {
        "cache": cache,
        "prefill_tokens": 200,
        "prompt_fit": "packed",
        # Texts that no other test has sent: another order makes other joins.
        "seed": 4711 if cache == "natural" else 4712,
        "num_requests": 16,
    }
    first, _ = run(tmp_path / "first", server, dataset, **settings)
    again, _ = run(tmp_path / "again", server, dataset, **settings)
    assert first.plan["sha256"] == again.plan["sha256"]
    assert hit_rate(first) < 0.2
    assert (hit_rate(again) > 0.5) == hits
    if not hits:
        assert hit_rate(again) < 0.2


def test_questions_are_paired_by_their_answers(tmp_path: Path, server: Served) -> None:
    own = {"num_requests": None, "max_new_tokens": 48, "quality": {"questions": 20}}
    words = bench_words(tmp_path, server, "quality:arithmetic", **own)
    assert_ran(script(tmp_path, "bench.py", *words, "--texts"))
    paths = find_runs([], tmp_path / "results").paths
    runs = with_answers_judged([summarize(load_run(path)) for path in paths])
    alone, level = sorted(runs, key=lambda run: run.began_s)
    assert alone.answers is not None
    assert level.answers is not None
    assert (alone.answers.n, level.answers.n) == (20, 20)
    pairs = level.answers.against
    assert pairs is not None
    assert (pairs.pairs, pairs.left_out) == (20, 0)
    codes = [f.code for f in level.verdict.findings if f.code in CODES]
    if server.log.name.startswith("simulator"):
        assert (alone.answers.right, level.answers.right, codes) == (20, 20, [])
    else:  # a tiny model with random weights answers nothing right: there is nothing to lose
        assert alone.answers.right < 5
        assert codes == ["answers_unjudged"]
    for run in (alone, level):
        texts = (tmp_path / "results" / "answers" / f"{run.name}.jsonl").read_text()
        assert len(texts.splitlines()) == 20
