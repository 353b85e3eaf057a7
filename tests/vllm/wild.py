"""Valid documents, edited here and there, as strategies: leaves, types, sizes, nesting, bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    "NaN",
    "+Inf",
    "-Inf",
    "-1",
    "1e308",
    "-0",
    "1e30",
    "0x10",
    "1_0",
    "many",
    "",
    "5.5",
    "0",
)
LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["4096", "", "-1", "\ud83d", "\x1b[2J", "9" * 400, [], {}, [[[]]], {"a": {}}])
)


@st.composite
def edited_json(draw: st.DrawFn, *valid: Any) -> bytes:
    """A document of these as JSON, with a few of its parts replaced, dropped or repeated."""
    found = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, 3))):
        found = _edited(draw, found)
    return edited_bytes(draw, _dumped(found))


def _edited(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return copy.deepcopy(draw(LEAVES))  # the next edit may change it
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    how = draw(st.sampled_from(["into", "drop", "wrap"]))
    if how == "drop":
        del value[key]
    elif how == "wrap":
        for _ in range(draw(st.sampled_from([1, 3, 300]))):
            value[key] = {"error": value[key]}
    else:
        value[key] = _edited(draw, value[key])
    return value


def _dumped(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 100_000


def edited_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes; sometimes cut off, or with others in their middle."""
    how = draw(st.sampled_from(["whole"] * 4 + ["cut", "put"]))
    if how == "whole":
        return data
    at = draw(st.integers(0, len(data)))
    if how == "cut":
        return data[:at]
    return data[:at] + draw(st.binary(max_size=8)) + data[at:]


@st.composite
def edited_page(draw: st.DrawFn, valid: str) -> str:
    """A page of metrics with a few lines that have another value, name or label, or come twice."""
    lines = valid.splitlines()
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        name, _, _ = lines[at].rpartition(" ")
        lines[at : at + 1] = draw(
            st.sampled_from([[], [lines[at]] * 2])
            | st.sampled_from(NUMBERS).map(lambda number, n=name: [f"{n} {number}"])
            | st.floats().map(lambda number, n=name: [f"{n} {number!r}"])
            | st.text(max_size=30).map(lambda text: [text])
            | st.integers(0, len(lines[at])).map(lambda cut, a=at: [lines[a][:cut]])
        ) or [""]
    return edited_bytes(draw, "\n".join([*lines, ""]).encode()).decode(errors="replace")
