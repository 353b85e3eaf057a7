"""Kinds of load for bench.py: two short levels each, of a second or two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "simulated"
NAME = "load"  # of the scenario
PACE = ("--exact", "--ttft-ms", "40", "--itl-ms", "10")
TOKENS = 8  # of a reply, at the most
ENDLESS_S = 6.0  # a request is given up, whatever happens
COMMON: Mapping[str, Any] = {
    "model": MODEL,
    "dataset": "file:prompts.jsonl",
    "max_new_tokens": TOKENS,
    "timeout_first_token_s": 3,
    "timeout_stall_s": 3,
    "timeout_total_s": ENDLESS_S,
}


@dataclass(frozen=True, slots=True)
class Load:
    """One shape of load."""

    name: str
    settings: Mapping[str, Any]
    requests: int  # of each of its two levels
    words: tuple[str, ...] = field(default=())  # for bench.py

    @property
    def turns(self) -> int:
        """How many requests go one after the other, until one fails."""
        return int(self.settings.get("conversations", {}).get("turns", 1))


def _closed(name: str, words: tuple[str, ...] = (), **more: Any) -> Load:
    return Load(name, {"concurrencies": [3, 5], "num_requests": 54, **more}, 54, words)


def _open(name: str, words: tuple[str, ...] = (), **more: Any) -> Load:
    return Load(name, {"request_rates": [40, 60], "num_requests": 80, **more}, 80, words)


TWO = ("--workers", "2")
LOADS = (
    _closed("closed"),
    _closed("closed, 2 workers", TWO),
    _closed("closed, 3 workers", ("--workers", "3")),
    _closed("whole", stream=False),
    _closed("completions", endpoint="completions"),
    _closed("conversation", conversations={"turns": 3, "think_time_s": 0.03}),
    _closed("conversation, 2 w.", TWO, conversations={"turns": 3, "think_time_s": 0.03}),
    _open("open"),
    _open("open, 2 workers", TWO),
    _open("open, a cap", max_in_flight=4),
)


def write_load(folder: Path, load: Load, base_url: str) -> Path:
    """Write a scenario file and its prompts; return the file."""
    write_prompts(folder / "prompts.jsonl", 200)
    settings = {**COMMON, **load.settings, "base_url": base_url}
    path = folder / "scenarios.yaml"
    path.write_text(json.dumps({"scenarios": {NAME: settings}}), encoding="utf-8")  # JSON is YAML
    return path


def write_prompts(path: Path, number: int) -> None:
    """Write prompts of some sixty words, no two of which begin alike."""
    lines = (
        json.dumps({"id": str(i), "prompt": f"{i} " + "please tell me more " * 15})
        for i in range(number)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
