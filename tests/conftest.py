"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.far_end import FarEnd, TinyVllm

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    """A server that plays bytes."""
    with FarEnd() as server:
        yield server


@pytest.fixture
def tiny_vllm() -> Iterator[TinyVllm]:
    """A server with vLLM's endpoints and one word a token."""
    with TinyVllm() as server:
        yield server


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of captures and data beside the checkout; skips where it is missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "wire").is_dir():
        pytest.skip("no folder ../shared with captures of a real server")
    return folder
