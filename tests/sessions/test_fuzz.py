"""Sessions' files that may be anything: sessions that hang together, or one line with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.sessions.possible import possible_hits
from vllm_bench.sessions.read import is_session_trace, read_sessions
from vllm_bench.sessions.session import Session, SessionError, Sessions
from vllm_bench.traces.rows import MOST_TOKENS

from tests.sessions.made import DATA

FILES = sorted(path for path in DATA.rglob("*.json*") if path.is_file())
NAMES = [str(path.relative_to(DATA)) for path in FILES]
ODD = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64 - 1, 0.5, -0.5, 1e308, 1e-308),
    *("", "1", "a\nb", "\0", "\u202e", "9" * 400, "2026-13-45T00:00:00Z", "-1", "[", "[1]", "{}"),
    *([], {}, [1.5], [True], [[]], [{}], [None], {"a": 1}, {"requests": []}),
]
JSON = st.recursive(
    st.sampled_from(ODD) | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "trace"


def checked(path: Path, data: bytes) -> Sessions | None:
    path.write_bytes(data)
    is_session_trace(path)
    try:
        found = read_sessions(path)
    except SessionError as e:
        complaint = str(e)
        assert complaint.startswith(str(path))
        assert "\n" not in complaint
        assert complaint.isprintable()
        assert len(complaint) < 1500
        return None
    if found is not None:
        assert found.sessions
        assert len({session.id for session in found.sessions}) == len(found.sessions)
        for session in found.sessions:
            check(session)
        assert all(number > 0 for number in found.left_out.values())
        assert all("\n" not in note for note in found.notes)
        assert 0 <= possible_hits(found).share < 1
    return found


def check(session: Session) -> None:
    """What a plan takes for granted."""
    assert session.turns
    assert session.starts_s is None or 0 <= session.starts_s < math.inf
    for place, turn in enumerate(session.turns):
        assert list(turn.after) == sorted(set(turn.after))
        assert all(0 <= before < place for before in turn.after)
        assert turn.history is None or 0 <= turn.history < place
        assert 0 <= turn.wait_s < math.inf
        assert turn.not_before_s is None or 0 <= turn.not_before_s < math.inf
        assert turn.prompt_tokens is None or 0 < turn.prompt_tokens <= MOST_TOKENS
        assert turn.output_tokens is None or 0 < turn.output_tokens <= MOST_TOKENS
        assert turn.prompt_tokens is not None or turn.new_messages
        assert turn.wait_kind is None or turn.after


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON value are."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield from places(one, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any, gone: bool) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and gone:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new, gone)
    return copy


@pytest.mark.fuzz
@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 10**6), JSON, st.booleans())
def test_any_value_may_be_anything(path: Path, name: str, at: int, new: Any, gone: bool) -> None:
    rows = [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]
    listed = [place for place in places(rows) if place]
    made = changed(rows, listed[at % len(listed)], new, gone)
    data = "\n".join(json.dumps(row) for row in made)
    checked(path, data.encode("utf-8", "surrogatepass"))


@pytest.mark.fuzz
@settings(deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 4000),
    st.integers(0, 20),
    st.binary(max_size=6) | st.sampled_from([b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"[" * 2000]),
    st.integers(0, 4000),
)
def test_any_bytes_may_be_others(
    path: Path, name: str, at: int, length: int, new: bytes, kept: int
) -> None:
    whole = bytearray((DATA / name).read_bytes())
    whole[at % len(whole) : at % len(whole) + length] = new
    checked(path, bytes(whole[: kept or None]))


@pytest.mark.fuzz
@settings(deadline=None)
@given(
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "ignore"))
)
def test_any_file_is_sessions_or_a_line(path: Path, data: bytes) -> None:
    checked(path, data)


@settings(deadline=None)
@given(
    st.sampled_from([n for n in NAMES if n.split("/")[0] not in ("mlperf.jsonl",)]), st.randoms()
)
def test_the_order_of_rows_says_nothing(path: Path, name: str, random: Any) -> None:
    # But of messages, which follow each other.
    rows = (DATA / name).read_text("utf-8").splitlines()
    random.shuffle(rows)
    found = checked(path, "\n".join(rows).encode())
    assert found == read_sessions(DATA / name)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_themselves_are_fine(path: Path, name: str) -> None:
    assert checked(path, (DATA / name).read_bytes()) is not None
