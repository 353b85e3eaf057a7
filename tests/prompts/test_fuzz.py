"""Any file at all is prompts, or one line that names it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.prompts.own.conversations import holds_conversations, read_conversations
from vllm_bench.prompts.own.files import read_prompt_file
from vllm_bench.prompts.own.rows import CONVERSATIONS, KEYS, SYSTEM
from vllm_bench.prompts.prompt import PromptError

NAMES = st.sampled_from(["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a", "a.jsonl.gz"])
WORDS = st.sampled_from(
    ["role", "content", "from", "value", "user", "tool", "type", "text", "body"]
)
KEY = st.sampled_from([*KEYS, *CONVERSATIONS, *SYSTEM, "parent_id", "message_tree_id"]) | WORDS
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | WORDS
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEY | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Rows as JSON lines, as JSON, or as a table; encoded, cut, damaged, packed."""
    rows = draw(st.lists(VALUES, max_size=5))
    kind = draw(st.sampled_from(["lines", "array", "table", "text"]))
    if kind == "lines":
        text = "\n".join(map(json.dumps, rows))
    elif kind == "array":
        text = json.dumps(
            draw(st.sampled_from([rows, {"data": rows}])), indent=draw(st.none() | st.just(1))
        )
    elif kind == "table":
        text = "\n".join([",".join(draw(st.lists(KEY, max_size=3))), *map(str, rows)])
    else:
        text = draw(st.text())
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    data = text.encode(encoding, "replace")
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=3))
    return gzip.compress(data, mtime=0) if draw(st.booleans()) else data


@pytest.mark.fuzz
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, documents() | st.binary())
def test_any_file_is_prompts_or_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for read in (read_prompt_file, holds_conversations, read_conversations):
        try:
            read(path)
        except PromptError as e:
            assert str(e).startswith(f"file:{path}: ")  # noqa: PT017
            assert "\n" not in str(e)  # noqa: PT017
            continue
        if read is read_prompt_file:
            found = read_prompt_file(path)
            assert all(p.text.encode() and p.messages[-1].role == "user" for p in found.prompts)
            assert len({p.id for p in found.prompts}) == len(found.prompts) > 0
