"""Verdicts end to end: bench.py against the simulator with something planted, and what came."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import yaml

from tests.sim.simulated import Simulated
from tests.support.frames import read_frame
from tests.support.running import run_script

pytestmark = pytest.mark.process


def bench(folder: Path, url: str, name: str = "chat", **settings: object):
    """Run a scenario and return the process with its summary's runs."""
    scenario = {
        "base_url": f"{url}/v1",
        "model": "simulated",
        "dataset": "sample",
        "max_new_tokens": 8,
        "concurrencies": [4],
        "num_requests": 60,
        **settings,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "scenarios.yaml"
    path.write_text(yaml.safe_dump({"scenarios": {name: scenario}}))
    words = ["--scenarios", path, "--results-dir", folder]
    done = run_script("bench/bench.py", *words)
    run_script("bench/summarize.py", "--results-dir", folder)
    return done, json.loads((folder / "summary.json").read_text())


def codes(summary) -> dict[str, str]:
    (found,) = summary["runs"]
    return {f["code"]: f["severity"] for f in found["verdict"]["findings"]}


def test_a_run_on_a_quiet_server_has_nothing_against_it_but_its_length(tmp_path):
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "10") as server:
        done, summary = bench(tmp_path, server.url, slo={"ttft_ms": {"p50": 10_000}})
    assert "errors" not in codes(summary)
    assert "ledger_mismatch" not in codes(summary)
    assert codes(summary)["window_short"] == "SUSPECT"
    (found,) = summary["runs"]
    assert found["attainment"]["met"] is True
    counted = found["figures"]["requests_counted"]
    gaps, of_all = found["distributions"]["itl_ms"]["n"], counted * 7  # of replies of 8 tokens
    (path,) = tmp_path.glob("*-cc*.csv")
    rows = read_frame(path)
    merged = (rows["token_events"] - rows["token_reads"]).sum()  # by a client that is busy
    assert of_all - merged <= gaps <= of_all
    assert "Objectives" in done.stdout


def test_one_in_ten_failing_is_invalid_with_the_servers_words(tmp_path):
    with Simulated("--exact", "--ttft-ms", "5", "--itl-ms", "2", "--faults", "http_500:0.1") as s:
        done, summary = bench(tmp_path, s.url)
    assert done.returncode == 4
    assert codes(summary)["errors"] == "INVALID"
    assert "http_5xx" in done.stdout


def test_an_objective_that_is_missed_is_exit_3_unless_the_run_is_invalid(tmp_path):
    with Simulated("--exact", "--ttft-ms", "60", "--itl-ms", "10") as server:
        done, summary = bench(tmp_path, server.url, slo={"ttft_ms": {"p50": 59}})
    (found,) = summary["runs"]
    assert found["attainment"]["outcomes"][0]["within"] == 0  # no token comes before its time
    invalid = found["verdict"]["level"] == "INVALID"  # as on a machine that is busy otherwise
    assert done.returncode == (4 if invalid else 3)
    assert invalid or "MISSED" in done.stdout  # nothing is said of an INVALID run's objectives


def test_a_second_client_shows_in_the_servers_ledger(tmp_path):
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "10") as server:
        body = {"model": "simulated", "prompt": "hello", "max_tokens": 3}
        over = threading.Event()

        def intrude() -> None:
            while not over.is_set():
                server.client.post("/v1/completions", json=body)

        other = threading.Thread(target=intrude)
        other.start()
        done, summary = bench(tmp_path, server.url)
        over.set()
        other.join()
    assert done.returncode == 4
    assert codes(summary)["ledger_mismatch"] == "INVALID"
    assert "ledger_mismatch" in done.stdout


def test_several_tokens_a_chunk_are_told(tmp_path):
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "5", "--stream-interval", "4") as s:
        _, summary = bench(tmp_path, s.url)
    assert codes(summary)["multi_token_chunks"] == "NOTE"


def test_lengths_that_were_cut_are_told(tmp_path):
    with Simulated("--exact", "--ttft-ms", "5", "--itl-ms", "1", "--faults", "short:0.2=3") as s:
        done, summary = bench(tmp_path, s.url, ignore_eos=True)
    assert codes(summary)["length_mismatch"] == "INVALID", done.stdout


@pytest.mark.parametrize(
    ("fault", "code", "severity"),
    [
        ("no_tokens", "no_first_token", "INVALID"),
        ("all_in_one", "buffered", "SUSPECT"),
        ("claim=3", "usage_contradicts", "INVALID"),
        ("claim_prompt=100", "usage_contradicts", "SUSPECT"),
        ("other_model", "other_model", "SUSPECT"),
    ],
)
def test_a_server_that_says_what_cannot_be_is_told(tmp_path, fault, code, severity):
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "10", "--faults", fault) as server:
        done, summary = bench(tmp_path, server.url, num_requests=24)
    assert codes(summary)[code] == severity, done.stdout


def test_what_a_server_says_beyond_its_load_is_told(tmp_path):
    flags = ("--exact", "--ttft-ms", "20", "--itl-ms", "15", "--data-parallel-size", "3")
    faults = "idle_engine, transferred=20, http_503:#30"
    with Simulated(*flags, "--num-speculative-tokens", "2", "--faults", faults) as server:
        load = {"max_new_tokens": 64, "concurrencies": [9], "num_requests": 80, "ignore_eos": True}
        _, summary = bench(tmp_path, server.url, **load)
    assert codes(summary)["engine_idle"] == "SUSPECT"
    assert not {"server_restarted", "replicas_in_turn", "ledger_mismatch"} & set(codes(summary))
    said = summary["runs"][0]["server_said"]
    assert (said["engines"], said["engines_idle"]) == (3, 1)
    assert said["engine_balance"] == pytest.approx(1.5, abs=0.2)
    assert said["spec_acceptance_length"] == pytest.approx(1 + 0.8 + 0.64, abs=0.01)
    assert said["spec_by_position"] == {
        "0": pytest.approx(0.8, abs=0.01),
        "1": pytest.approx(0.64, abs=0.01),
    }
    assert said["rejected"] == {"max_num_queued_reqs": 1}
    assert said["prompt_from_transfer"] > said["prompt_from_cache"] == 0
    assert 0 < said["external_hit_rate"] < 1
    assert "speculation" in (tmp_path / "summary.md").read_text()
