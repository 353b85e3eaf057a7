"""Scenario files for the tests, and what is said of those that can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from vllm_bench.scenario.scenario import ScenarioError, load_scenarios

WHOLE: dict[str, Any] = {
    "model": "tiny",
    "max_new_tokens": 16,
    "concurrencies": [1, 4],
    "num_requests": 8,
}


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenarios.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def file_with(tmp_path: Path, defaults: dict[str, Any] | None = None, **settings: object) -> Path:
    """Write a file with one whole scenario `chat`, changed by `settings`; `...` leaves one out."""
    body = {k: v for k, v in {**WHOLE, **settings}.items() if v is not ...}
    return file_of(tmp_path, yaml.safe_dump({"defaults": defaults, "scenarios": {"chat": body}}))


def refusal(path: Path) -> str:
    with pytest.raises(ScenarioError) as refused:
        load_scenarios(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")
