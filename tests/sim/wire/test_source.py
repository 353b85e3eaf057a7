"""The source of prepared replies: its bytes are the simulator's, its pace is kept and told."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.sim.simulated import SCRIPT, events
from tests.support.beside.waiting import LIMIT_S

pytestmark = pytest.mark.process
TOKENS, ITL_S = 6, 0.01


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[http.client.HTTPConnection, subprocess.Popen[str]]]:
    words = ["--processes", "2", "--tokens", str(TOKENS), "--itl-ms", f"{1000 * ITL_S:g}"]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT.with_name("source.py")), *words, "--record", tmp_path / "r"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = urlsplit(process.stdout.readline().strip())
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT_S)
    yield connection, process
    connection.close()
    process.terminate()
    assert process.wait(LIMIT_S) in (0, -signal.SIGTERM)
    process.stdout.close()


def test_a_reply_has_each_token_in_its_time(
    source: tuple[http.client.HTTPConnection, subprocess.Popen[str]], tmp_path: Path
) -> None:
    connection, process = source
    connection.request("GET", "/v1/models")
    assert json.load(connection.getresponse())["data"][0]["id"] == "prepared"
    for _ in range(2):  # on one connection
        began = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", body=b'{"model": "prepared"}')
        got = events(connection.getresponse().read().decode())
        assert time.perf_counter() - began >= TOKENS * ITL_S
        *told, usage, done = got
        assert done == "[DONE]"
        assert usage["usage"]["completion_tokens"] == TOKENS
        texts = [event["choices"][0]["delta"].get("content") for event in told]
        assert len([text for text in texts if text]) == TOKENS
        assert told[-1]["choices"][0]["finish_reason"] == "length"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    record = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    assert [one["events"] for one in sorted(record, key=lambda one: one["events"])] == [
        0,
        2 * TOKENS,
    ]
    assert all(one["late_p99_us"] >= 0 for one in record)


def test_what_it_has_not_is_told(
    source: tuple[http.client.HTTPConnection, subprocess.Popen[str]],
) -> None:
    connection, _ = source
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (404, b"")
