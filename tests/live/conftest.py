"""The virtual clock that a run's progress is told by."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm_bench.live import progress as progress_module

from tests.live.screens import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    virtual = SimpleNamespace(perf_counter=lambda: 500.0 + found.now_s)
    monkeypatch.setattr(progress_module, "time", virtual)
    return found
