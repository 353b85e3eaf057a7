"""Memory: whatever a server sends without end takes little; a process tells its own alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.program import run_to_end
from vllm_bench.send.loop_health import peak_memory_bytes

from tests.support.beside.waiting import wait_until
from tests.support.far_end import SSE_HEAD, Step, TinyVllm, chunk, delta
from tests.support.running import command, info, rows, tiny_scenario

MB = 1_000_000
TOLD = "from vllm_bench.send.loop_health import peak_memory_bytes as peak; print(peak())"
MOST_MB = 300  # of the parent, and of the sender: modules, what is on its way, and a reply's bound
TOKENS = chunk(b"".join(delta("x") for _ in range(7000)))
COMMENTS = chunk((b": " + b"ping" * 250 + b"\n\n") * 1000)
LINE = chunk(b"x" * MB)
HEADERS = b"".join(b"x-%d: " % n + b"y" * 1000 + b"\r\n" for n in range(1000))
JSON_HEAD = b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 300000000\r\n\r\n"
OK_HEAD = JSON_HEAD.replace(b"500 X", b"200 OK")


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "settings", "kind"),
    [
        ([b"HTTP/1.1 200 OK\r\n", *[HEADERS] * 200], {}, "oversized"),
        ([SSE_HEAD, chunk(b"data: "), *[LINE] * 250], {}, "oversized"),
        ([SSE_HEAD, *[COMMENTS] * 250], {}, "oversized"),
        ([SSE_HEAD, *[TOKENS] * 250], {}, "overlong"),
        ([OK_HEAD, *[b"x" * MB] * 300], {"stream": False}, "oversized"),
        ([JSON_HEAD, *[b"x" * MB] * 300], {"stream": False}, "http_5xx"),
    ],
    ids=["headers", "a line", "comments", "tokens", "a body", "an error's body"],
)
def test_memory_is_flat_and_the_failure_has_its_name(
    tmp_path: Path,
    tiny_vllm: TinyVllm,
    script: list[Step],
    settings: dict[str, Any],
    kind: str,
) -> None:
    tiny_vllm.misbehave = lambda _: script
    load = {"concurrencies": [2], "num_requests": 2, **settings}
    path = tiny_scenario(tmp_path, tiny_vllm.base_url, **load)
    used = run_to_end(command(tmp_path, path, "--no-server-metrics"), tmp_path / "log")
    (worker,) = info(tmp_path).client_health["workers"]
    assert list(rows(tmp_path)["error_kind"]) == [kind, kind], (tmp_path / "log").read_text()
    wait_until(lambda: tiny_vllm.hung_up == 2)  # nobody took the rest
    assert used.memory_bytes < MOST_MB * MB
    assert worker["peak_memory_bytes"] < MOST_MB * MB


@pytest.mark.process
def test_a_large_parent_is_not_counted() -> None:
    large = bytearray(b"x") * (200 * MB)
    bench = Path(__file__).parents[2] / "bench"
    done = subprocess.run([sys.executable, "-c", TOLD], cwd=bench, capture_output=True, check=True)
    assert peak_memory_bytes() > len(large)
    assert 5 * MB < int(done.stdout) < 150 * MB


def test_without_proc_the_system_is_asked(tmp_path: Path) -> None:
    assert peak_memory_bytes(tmp_path / "none") > 5 * MB
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   28104 kB\nVmRSS:\t 9 kB\n")
    assert peak_memory_bytes(tmp_path / "status") == 28104 * 1024
