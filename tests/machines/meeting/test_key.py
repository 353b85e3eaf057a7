"""A key means the same to bench.py, in its --key-file, and to sender.py, on standard input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.errors import UsageError
from vllm_bench.machines.asked import _key
from vllm_bench.machines.meeting.key import LEAST, MOST, fresh, key_of

KEY = bytes(range(32))  # with a newline in it
TEXT = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    ("found", "key"),
    [
        (KEY, KEY),
        (KEY.hex().encode(), KEY.hex().encode()),  # digits are no other key than what they are
        (KEY.hex().upper().encode() + b"\r\n", KEY.hex().upper().encode()),
        (TEXT + b"\n", TEXT),
        (b" with blanks around it \n\n", b" with blanks around it "),
        (TEXT + b"\nanother line\n", TEXT + b"\nanother line"),
        (b"\xff" * LEAST, b"\xff" * LEAST),
    ],
)
def test_a_key_is_what_the_file_has_less_the_newlines_at_its_end(
    tmp_path: Path, found: bytes, key: bytes
) -> None:
    path = tmp_path / "key"
    path.write_bytes(found)
    assert _key(path) == key_of(found, "standard input") == key


@given(st.binary(max_size=100))
def test_a_key_survives_an_editor_that_ends_its_last_line(found: bytes) -> None:
    try:
        key = key_of(found, "here")
    except UsageError:
        assert len(found.rstrip(b"\r\n")) < LEAST
        return
    assert key == key_of(found + b"\n", "here") == key_of(found + b"\r\n", "here")


@pytest.mark.parametrize("found", [b"", b"\n", b"x" * (LEAST - 1) + b"\n", b"x" * (MOST + 1)])
def test_what_is_no_key_is_told_without_showing_it(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(found)
    with pytest.raises(UsageError) as told:
        _key(path)
    assert str(len(found.rstrip(b"\n"))) in str(told.value)
    assert "xxx" not in str(told.value)


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            _key(path)


def test_a_fresh_key_is_a_key_that_any_pipe_carries() -> None:
    key = fresh()
    assert key_of(key + b"\n", "here") == key
    assert key != fresh()
    assert key.isalnum()
