"""Sessions' files as the formats have them, with the values that a test is about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.sessions.read import read_sessions
from vllm_bench.sessions.session import Session, SessionError, Sessions, Turn

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

Given = Mapping[str, Any]


def lines(rows: Iterable[Given]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(folder: Path, content: str | Given | list[Any], name: str = "trace") -> Sessions:
    """What a file of this content holds; a text is written as it is."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    found = read_sessions(path)
    assert found is not None
    return found


def only(found: Sessions) -> Session:
    (session,) = found.sessions
    return session


def turns(found: Sessions) -> tuple[Turn, ...]:
    return only(found).turns


def refusal(folder: Path, content: str | Given | list[Any], name: str = "trace") -> str:
    """The complaint about a file, without its name."""
    with pytest.raises(SessionError) as raised:
        read(folder, content, name)
    text = str(raised.value)
    assert text.startswith(str(folder / name))
    assert "\n" not in text
    return text.removeprefix(str(folder / name))


# Weka


def call(t: float, tokens: int, out: int = 10, **more: Any) -> dict[str, Any]:
    """A request of a Weka session, in blocks of 64 that begin like all others."""
    blocks = list(range(1, tokens // 64 + 1))
    given = {"t": t, "type": "n", "in": tokens, "out": out, "hash_ids": blocks, **more}
    return {key: value for key, value in given.items() if value is not None}


def tool(t: float, tokens: int, **more: Any) -> dict[str, Any]:
    return call(t, tokens, **{"input_types": ["tool_result"], "api_time": 2.0, **more})


def marker(t: float, duration_s: float | None, *requests: Given, **more: Any) -> dict[str, Any]:
    duration_ms = None if duration_s is None else round(duration_s * 1000)
    given = {"t": t, "type": "subagent", "agent_id": "a", "duration_ms": duration_ms, **more}
    return {**given, "status": given.get("status", "completed"), "requests": list(requests)}


def weka(*requests: Given, **more: Any) -> dict[str, Any]:
    return {"id": "w", "block_size": 64, "hash_id_scope": "local", "requests": requests, **more}
