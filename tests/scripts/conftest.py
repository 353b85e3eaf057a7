"""bench.py against a server with vLLM's endpoints in this process, as several test files run it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.far_end import TinyVllm
from tests.support.running import run_bench, tiny_scenario

Bench = Callable[..., "subprocess.CompletedProcess[str]"]
Scenarios = Callable[..., Path]


@pytest.fixture
def scenarios(tmp_path: Path, tiny_vllm: TinyVllm) -> Scenarios:
    """Return what writes a scenario file: 12 requests of 4 tokens over 3 streams, or as told."""
    settings = {"base_url": tiny_vllm.base_url, "concurrencies": [3], "num_requests": 12}
    return lambda **changes: tiny_scenario(tmp_path, **{**settings, **changes})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return what runs a scenario file to its end."""
    return partial(run_bench, tmp_path)
