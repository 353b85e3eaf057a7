"""How real vLLM refuses and gives up within a stream of status 200: failures all, by name."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Served, start
from tests.e2e.scripts import bench_words, environment, rows, script
from tests.support.beside.waiting import LIMIT_S, wait_until

pytestmark = [pytest.mark.vllm, pytest.mark.process]

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A vLLM that works on one request and lets one wait."""
    few = ("--max-num-seqs", "1", "--max-num-queued-reqs", "1")
    served = start("vllm", tmp_path_factory.mktemp("narrow"), *few)
    yield served
    served.kill()


def test_a_full_queue_is_told_by_its_503_wherever_it_stands(
    tmp_path: Path, narrow: Served, dataset: str
) -> None:
    words = bench_words(tmp_path, narrow, dataset, concurrencies=[8], warmup_requests=0)
    assert script(tmp_path, "bench.py", *words).returncode == 4
    failed = rows(tmp_path).dropna(subset="error_kind")
    assert len(failed) > 0
    assert failed["error"].str.contains("503").all()
    # Those that come together get their stream before the queue is found to be full.
    inside = failed[failed["error_kind"] == "error_event"]
    assert (inside["http_status"] == 200).all()
    assert set(failed["error_kind"]) <= {"error_event", "http_5xx"}


def test_a_schema_that_is_none_is_an_error_of_400_in_a_stream(
    tmp_path: Path, narrow: Served, dataset: str
) -> None:
    body = {"response_format": SCHEMA}
    words = bench_words(
        *(tmp_path, narrow, dataset),
        extra_body=body,
        concurrencies=[1],
        num_requests=2,
        warmup_requests=0,
    )
    assert script(tmp_path, "bench.py", *words).returncode == 4
    found = rows(tmp_path)
    assert set(found["error_kind"]) <= {"error_event", "http_4xx"}
    assert found["error"].str.contains("400").all()


def test_a_server_that_is_told_to_stop_ends_its_streams_by_name(
    tmp_path: Path, narrow: Served, dataset: str
) -> None:
    words = bench_words(
        *(tmp_path, narrow, dataset),
        max_new_tokens=1700,
        timeout_stall_s=10,
        ignore_eos=True,
        concurrencies=[1],
        num_requests=1,
        warmup_requests=0,
    )
    before = narrow.generated()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "bench.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    wait_until(lambda: narrow.generated() >= before + 50)
    narrow.process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 4, err
    (row,) = rows(tmp_path).to_dict("records")
    # It tells the finish reason `abort`, with usage and [DONE], or an error of the engine that
    # stops, or falls silent: that depends on what it was doing. None of it looks like a success.
    assert row["error_kind"] in ("bad_finish", "error_event", "truncated", "timeout_stall")
    assert (row["error_kind"] == "bad_finish") == (row["finish_reason"] == "abort")
    assert 0 < row["token_events"] < 1700
