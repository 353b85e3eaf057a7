"""A key means the same to bench.py, in its --key-file, and to sender.py, on standard input."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import sender
from vllm_bench.machines.asked import LEAST_KEY, _key

KEY = bytes(range(32))
BASE64 = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (KEY.hex().encode(), KEY),
        (KEY.hex().encode() + b"\n", KEY),
        (KEY.hex().upper().encode() + b"\r\n", KEY),
        (BASE64 + b"\n", BASE64),
        (b"several words, as they are\n", b"several words, as they are"),
        (KEY.hex().encode() + b"\nanother line\n", KEY),
        (b"\xff" * LEAST_KEY, b"\xff" * LEAST_KEY),
    ],
)
def test_a_file_is_the_same_key_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, known: bytes
) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert _key(path) == sender._key() == known
