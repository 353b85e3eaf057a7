"""What stands between client and server, or beside them, does what its name says and then ends."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import httpx
import pytest
from vllm_bench.planted.beside import buffering, busy, foreign, restarted
from vllm_bench.planted.situation import Stage

from tests.sim.simulated import Simulated, events, read_counters
from tests.support.beside.waiting import LIMIT_S, wait_until

pytestmark = pytest.mark.process

TOKENS = 10
ASK = {"prompt": "hello", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}


def stage(server: Simulated, folder: Path) -> Stage:
    core = min(os.sched_getaffinity(0))
    return Stage(f"{server.url}/v1", server.process.pid, server.flags, folder, core)


def reads(url: str) -> list[bytes]:
    """The reads in which the answer to a streamed request came, as a socket gives them."""
    at, body = httpx.URL(url), json.dumps(ASK).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection((at.host, at.port or 0)) as sock:
        sock.sendall(f"{head}connection: close\r\n\r\n".encode() + body)
        return list(iter(lambda: sock.recv(1 << 20), b""))


def in_reads(url: str, fewest: int) -> list[bytes]:
    """Ask until an answer comes in so many reads: a busy client finds several in one."""
    return wait_until(lambda: found if len(found := reads(url)) >= fewest else [])


@pytest.mark.parametrize(("most", "fewest", "largest"), [(1 << 20, 1, 1), (600, 2, 8)])
def test_a_proxy_changes_nothing_but_when_it_comes(
    tmp_path: Path, most: int, fewest: int, largest: int
) -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "5") as server:
        with buffering(most)(stage(server, tmp_path)) as url:
            came = in_reads(url, fewest)
            page = httpx.get(url.replace("/v1", "/metrics"), trust_env=False)
        assert len(came) <= largest
        assert len(events(b"".join(came).decode())) == TOKENS + 1
        assert "vllm:generation_tokens_total" in page.text
        assert in_reads(f"{server.url}/v1", largest + 1)


def test_a_proxy_is_gone_afterwards(tmp_path: Path) -> None:
    with Simulated("--exact") as server, buffering(1)(stage(server, tmp_path)) as url:
        port = httpx.URL(url).port or 0
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", port)) != 0


def test_a_foreign_client_asks_until_the_end(tmp_path: Path) -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "1") as server:
        with foreign(2, 7)(stage(server, tmp_path)) as url:
            assert url == f"{server.url}/v1"
            wait_until(lambda: generated(server) >= 14)
        ended = generated(server)
        assert ended % 7 == 0
        assert generated(server) == ended


def test_what_is_beside_ends_with_a_run_that_is_broken_off(tmp_path: Path) -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "1") as server:
        for beside in (foreign(2, 7), restarted(60.0)):
            with pytest.raises(KeyboardInterrupt), beside(stage(server, tmp_path)):
                raise KeyboardInterrupt
        assert server.process.poll() is None


def generated(server: Simulated) -> float:
    return read_counters(server.client.get("/metrics").text)["vllm:generation_tokens_total"]


def children() -> set[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(map(int, path.read_text().split()))


def test_busy_processes_want_the_clients_core_and_end(tmp_path: Path) -> None:
    before = children()
    here = Stage("http://127.0.0.1:1/v1", 0, (), tmp_path, min(os.sched_getaffinity(0)))
    with busy(2)(here):
        started = children() - before
        assert len(started) == 2
        assert all(os.sched_getaffinity(pid) == {here.client_core} for pid in started)
    assert children() == before


def test_a_restarted_server_counts_from_nothing_and_writes_a_second_truth(tmp_path: Path) -> None:
    with Simulated("--exact", "--ttft-ms", "1", "--itl-ms", "1") as server:
        assert server.stream("/v1/completions", **ASK)[-1] == "[DONE]"
        with restarted(0.0)(stage(server, tmp_path)):
            server.process.wait(LIMIT_S)
            wait_until(lambda: answers(server.url))
            assert reads(f"{server.url}/v1")
            text = httpx.get(f"{server.url}/metrics", trust_env=False).text
            assert read_counters(text)["vllm:generation_tokens_total"] == TOKENS
        assert not answers(server.url)
    assert len((tmp_path / "truth-2.jsonl").read_text().splitlines()) == 1


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
