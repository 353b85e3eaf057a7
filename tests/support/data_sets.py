"""Prompts of any data set for the tests, and a hub of small files that has exactly its schemas."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.prompts.prompt import Prompt, PromptError
from vllm_bench.prompts.source import load_source

SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "prompts"
FILES = {
    "databricks/databricks-dolly-15k": "dolly.jsonl",
    "tatsu-lab/alpaca": "alpaca.jsonl",
    "OpenAssistant/oasst1": "oasst1.jsonl",
    "anon8231489123/ShareGPT_Vicuna_unfiltered": "sharegpt_v3.json",
}


class FakeHub:
    """The hub's side of `datasets`: small files of exactly its schemas."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.revision = "0123abc"
        self.refusal: Exception | None = None

    def dataset_info(self, repo: str, **_: object) -> object:
        if self.refusal:
            raise self.refusal
        return type("Info", (), {"sha": self.revision})()

    def load_dataset(self, repo: str, **asked: Any) -> object:
        self.calls.append({"repo": repo, **asked})
        return self.rows(repo)

    @functools.cache  # noqa: B019 - lives as long as a test
    def rows(self, repo: str) -> object:
        import datasets

        text = (SCHEMAS / FILES[repo]).read_text(encoding="utf-8")
        array = FILES[repo].endswith(".json")
        rows = json.loads(text) if array else [json.loads(line) for line in text.splitlines()]
        return datasets.Dataset.from_list(rows)


def load_prompts(dataset: str, cache_dir: Path, hf_token: str | None = None) -> list[Prompt]:
    return list(load_source(dataset, cache_dir=cache_dir, hf_token=hf_token).prompts)


def texts(dataset: str, cache_dir: Path) -> list[str]:
    return [prompt.text for prompt in load_prompts(dataset, cache_dir=cache_dir)]


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"file:{path}"


def error(dataset: str, cache_dir: Path, **settings: Any) -> str:
    with pytest.raises(PromptError) as raised:
        load_prompts(dataset, cache_dir=cache_dir, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)
