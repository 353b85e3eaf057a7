"""bench.py as a person runs it, against a server with vLLM's endpoints in this process."""

from __future__ import annotations

import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import trustme
from vllm_bench.records.beside.token_file import load
from vllm_bench.records.request_record import COLUMNS

from tests.scripts.conftest import Bench, Scenarios
from tests.support.beside.held import held_at
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import CLOSE, HANG, SSE_HEAD, Step, TinyVllm, chunk, delta, event
from tests.support.frames import read_frame
from tests.support.running import BENCH, TALKATIVE, assert_ran, info, rows, start_bench
from tools.hostile.processes import senders_of

pytestmark = pytest.mark.process


def test_a_run_leaves_a_row_a_request_and_what_it_was(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.01  # so that the streams overlap
    done = bench(scenarios())
    assert_ran(done)
    found = rows(tmp_path)
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 12
    assert found["error"].isna().all()
    assert sorted(found["request_index"]) == list(range(12))
    assert (found["ttft_ms"] > 0).all()
    assert (found["completion_tokens"] == 4).all()
    run = info(tmp_path)
    assert (run.status, run.num_requests, run.concurrency) == ("complete", 12, 3)
    assert run.server_counters["after"]["vllm:generation_tokens_total"] == 48
    assert run.server["version"] == "0.0.0-test"
    assert run.server["system_fingerprint"] == "fp-test"
    assert run.clock_start.monotonic_ns < run.clock_end.monotonic_ns
    assert "window_short" in done.stdout  # it says what it is worth
    assert tiny_vllm.most_in_flight == 3


def test_the_streams_are_held_and_their_connections_kept(
    bench: Bench, scenarios: Scenarios, tiny_vllm: TinyVllm
) -> None:
    assert_ran(bench(scenarios(num_requests=40, concurrencies=[5])))
    sent = [r for r in tiny_vllm.requests if r.path == "/v1/chat/completions"]
    assert len(sent) == 40
    assert len({r.connection for r in sent}) == 5


def test_each_concurrency_is_a_run_of_its_own_on_the_same_prompts(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    assert_ran(bench(scenarios(concurrencies=[1, 2])))
    first, second = (read_frame(p) for p in sorted((tmp_path / "results").glob("*.csv")))
    assert list(first.sort_values("request_index")["prompt_id"]) == list(
        second.sort_values("request_index")["prompt_id"]
    )
    bodies = [r.json for r in tiny_vllm.requests if r.path == "/v1/chat/completions"]
    assert len({body["cache_salt"] for body in bodies}) == 2  # one a run


def test_without_streaming_only_the_latency_is_measured(
    bench: Bench, scenarios: Scenarios, tmp_path: Path
) -> None:
    assert_ran(bench(scenarios(stream=False)))
    found = rows(tmp_path)
    assert found["ttft_ms"].isna().all()
    assert (found["latency_ms"] > 0).all()


ERROR_EVENT: list[Step] = [
    SSE_HEAD,
    chunk(delta("a")),
    chunk(event({"error": {"message": "EngineCore died", "code": 500}})),
    chunk(event("[DONE]")),
    b"0\r\n\r\n",
]


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (ERROR_EVENT, "error_event", "EngineCore died"),
        ([SSE_HEAD, chunk(delta("a")), CLOSE], "truncated", "closed in mid-reply"),
        ([b"HTTP/1.1 429 X\r\ncontent-length: 4\r\n\r\nslow"], "http_429", "HTTP 429: slow"),
        ([b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"], "http_5xx", "HTTP 503"),
    ],
)
def test_nothing_that_failed_looks_like_success(
    bench: Bench,
    scenarios: Scenarios,
    tmp_path: Path,
    tiny_vllm: TinyVllm,
    script: list[Step],
    kind: str,
    words: str,
) -> None:
    tiny_vllm.misbehave = lambda number: script if number % 3 == 0 else None
    done = bench(scenarios())
    assert done.returncode == 4
    assert "INVALID" in done.stdout
    found = rows(tmp_path)
    assert (found["error_kind"].value_counts().to_dict()) == {kind: 4}
    assert found["error"].dropna().str.contains(words).all()
    assert len(found) == 12


def test_a_stream_that_stalls_is_cut_off_and_says_so(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    scripts: dict[int, list[Step]] = {
        2: [SSE_HEAD, chunk(delta("a")), HANG],
        3: [SSE_HEAD, HANG],
    }
    tiny_vllm.misbehave = scripts.get
    done = bench(scenarios(timeout_stall_s=0.3, timeout_first_token_s=0.3))
    assert done.returncode == 4
    found = rows(tmp_path)
    assert set(found["error_kind"].dropna()) == {"timeout_stall", "timeout_first_token"}
    stalled = found[found["error_kind"] == "timeout_stall"]
    assert stalled["ttft_ms"].notna().all()  # what it measured is kept


def completions(server: TinyVllm) -> int:
    return sum(r.path == "/v1/chat/completions" for r in server.requests)


def test_ctrl_c_keeps_every_row_and_lets_requests_under_way_end(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.05
    process = start_bench(tmp_path, scenarios(num_requests=1000))
    wait_until(lambda: completions(tiny_vllm) > 6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    found = rows(tmp_path)
    assert len(found) == completions(tiny_vllm) < 1000
    assert found["error"].isna().all()
    assert info(tmp_path).status == "interrupted"
    assert "interrupted" in out


def test_a_sigterm_to_the_whole_process_group_is_answered_as_ctrl_c_is(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.05
    process = start_bench(tmp_path, scenarios(num_requests=1000), "--workers", "2")
    wait_until(lambda: completions(tiny_vllm) > 6)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    found = rows(tmp_path)
    assert len(found) == completions(tiny_vllm) < 1000  # those in flight too
    assert found["error"].isna().all()
    assert info(tmp_path).status == "interrupted"


def test_ctrl_c_in_the_warm_up_says_that_nothing_was_measured(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.misbehave = lambda _: [SSE_HEAD, HANG]
    talks: dict[str, Any] = {"script": TALKATIVE, "PYTHONPATH": str(BENCH.parent)}
    process = start_bench(tmp_path, scenarios(warmup_requests=3), **talks)
    assert process.stderr is not None
    assert any("warming up 0/3" in line for line in process.stderr)  # the parent has heard of it
    wait_until(lambda: completions(tiny_vllm) == 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert re.search(r"\b0/3\b.*\b0/12\b", err)
    assert "connecting" not in err
    assert "warm-up" in out
    assert "slow ones" not in out
    assert info(tmp_path).status == "interrupted"
    assert len(rows(tmp_path)) == 0


def test_a_second_ctrl_c_cuts_off_what_is_under_way(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.misbehave = lambda _: [SSE_HEAD, chunk(delta("a")), HANG]
    process = start_bench(tmp_path, scenarios())
    wait_until(lambda: completions(tiny_vllm) == 3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # Python merges signals that come at once
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    found = rows(tmp_path)
    assert set(found["error_kind"]) == {"cancelled"}
    assert len(found) == 3


@pytest.mark.parametrize(("workers", "killed"), [(1, 1), (3, 1), (3, 3)])
def test_a_sending_process_that_dies_is_noticed_and_its_rows_kept(
    scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, workers: int, killed: int
) -> None:
    tiny_vllm.token_gap_s = 0.02
    with held_at(tiny_vllm, 13) as reached:
        process = start_bench(tmp_path, scenarios(num_requests=60), "--workers", str(workers))
        reached()
        wait_until(lambda: len(rows(tmp_path)) > 3)
        found_processes = senders_of(process.pid)
        assert len(found_processes) == workers
        for worker in found_processes[:killed]:
            os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=LIMIT_S)
    assert "died" in err
    assert "worker_lost" in out
    assert "INVALID" in out
    run, found = info(tmp_path), rows(tmp_path)
    assert sum(w["lost"] for w in run.client_health["workers"]) == killed
    if killed == workers:
        assert (process.returncode, run.status) == (1, "failed")
        assert 3 < len(found) < 60
    else:  # the others go on, and send all that the dead one had not yet taken
        assert (process.returncode, run.status) == (4, "incomplete")
        assert 60 - len(found) <= 2  # one under way, one on its way to the parent
    assert found["error"].isna().all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_streams_are_as_many_as_asked_over_all_senders_of(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, tiny_vllm: TinyVllm, workers: int
) -> None:
    tiny_vllm.token_gap_s = 0.005
    path = scenarios(num_requests=40, concurrencies=[5])
    assert_ran(bench(path, "--workers", str(workers)))
    found = rows(tmp_path)
    assert sorted(found["request_index"]) == list(range(40))  # each taken once
    assert set(found["stream_index"]) == set(range(5))
    assert tiny_vllm.most_in_flight == 5
    health = info(tmp_path).client_health
    assert len(health["workers"]) == workers
    assert health["streams_asked"] == 5
    assert health["connections_opened"] == 0
    assert all(worker["trip_ms"] > 0 for worker in health["workers"])
    assert health["loop_lag_ms"]["ticks"] > 0
    # One shared order: a request's place in the plan is its place in time; not where the system
    # halts a process between taking it and sending it.
    begun = found.sort_values("t_sent_s")["request_index"].to_numpy()
    assert (abs(begun - pd.Series(range(40))) < 5).mean() > 0.8


def test_every_token_has_its_stamp_in_the_tokens_file(
    bench: Bench, scenarios: Scenarios, tmp_path: Path
) -> None:
    assert_ran(bench(scenarios()))
    found = rows(tmp_path).set_index("request_index")
    (path,) = (tmp_path / "results" / "tokens").glob("*")
    tokens = load(path)
    assert sorted(tokens["request_index"]) == list(range(12))
    for place, index in enumerate(tokens["request_index"]):
        reads = slice(tokens["first_read"][place], tokens["first_read"][place + 1])
        row = found.loc[index]
        assert tokens["events"][reads].sum() == row["token_events"] == 4
        assert tokens["tokens"][reads].sum() == row["completion_tokens"]
        first_s = tokens["t_ns"][reads][0] / 1e9
        assert first_s == pytest.approx(row["t_sent_s"] + row["ttft_ms"] / 1e3, abs=2e-6)


def test_no_tokens_leaves_the_tokens_file_out(
    bench: Bench, scenarios: Scenarios, tmp_path: Path
) -> None:
    assert_ran(bench(scenarios(), "--no-tokens"))
    assert not (tmp_path / "results" / "tokens").exists()


def test_telemetry_without_a_gpu_warns_and_goes_on(
    bench: Bench, scenarios: Scenarios, tmp_path: Path
) -> None:
    done = bench(scenarios(), "--telemetry", NVIDIA_VISIBLE_DEVICES="none")
    assert_ran(done)
    sampled = list((tmp_path / "results" / "telemetry").glob("*.csv"))
    assert sampled or "NVML" in done.stderr


@pytest.fixture
def https_vllm(tmp_path: Path) -> Iterator[TinyVllm]:
    """A server whose certificate an authority of its own has signed."""
    authority = trustme.CA()
    server = TinyVllm()
    server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server.tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with server:
        yield server


def test_https_is_verified_by_the_authority_that_is_named(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, https_vllm: TinyVllm
) -> None:
    path = scenarios(base_url=https_vllm.base_url, tls_ca=str(tmp_path / "ca.pem"))
    done = bench(path)
    assert_ran(done)
    assert rows(tmp_path)["error"].isna().all()
    assert "tls_verify" not in done.stderr


def test_https_that_cannot_be_verified_is_refused_unless_told_and_then_it_is_said(
    bench: Bench, scenarios: Scenarios, tmp_path: Path, https_vllm: TinyVllm
) -> None:
    refused = bench(scenarios(base_url=https_vllm.base_url), "--wait-s", "0")
    assert refused.returncode == 1
    assert "certificate" in refused.stderr
    assert not completions(https_vllm)
    done = bench(scenarios(base_url=https_vllm.base_url, tls_verify=False))
    assert_ran(done)
    assert "tls_verify: false" in done.stderr
    assert any("tls_verify: false" in note for note in info(tmp_path).notes)


def test_an_authority_that_cannot_be_read_is_wrong_usage(
    bench: Bench, scenarios: Scenarios
) -> None:
    done = bench(scenarios(base_url="https://127.0.0.1:9/v1", tls_ca="nowhere.pem"))
    assert done.returncode == 2
    assert "tls_ca nowhere.pem" in done.stderr
