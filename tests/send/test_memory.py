"""A sending process tells its own memory, not what its parent had when it started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from vllm_bench.send.loop_health import peak_memory_bytes

MB = 1_000_000
TOLD = "from vllm_bench.send.loop_health import peak_memory_bytes as peak; print(peak())"


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
