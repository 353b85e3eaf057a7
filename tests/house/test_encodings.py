"""No text is read or written in whatever encoding a machine's locale has: each says its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for place in ("bench", "server", "tools") for path in (ROOT / place).rglob("*.py")
)
READS = {"open", "read_text", "write_text", "fdopen", "NamedTemporaryFile", "TextIOWrapper"}
STARTS = {"run", "Popen", "check_output", "check_call", "call"}
PLAIN = {"write_text": 2, "read_text": 1}  # where `encoding` stands if it isn't named


def unsaid(source: str) -> Iterator[int]:
    """Yield the lines of calls that leave the encoding to the locale."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            keywords = {k.arg: k.value for k in node.keywords}
            if "encoding" in keywords or None in keywords:
                continue
            as_text = any(_is_true(keywords.get(k)) for k in ("text", "universal_newlines"))
            if (name in STARTS and as_text) or (name in READS and _opens_text(name, node)):
                yield node.lineno


def _is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _opens_text(name: str, node: ast.Call) -> bool:
    """Whether it opens a file for text: no mode with a b, and not `os.open`, say."""
    if name in PLAIN:
        return len(node.args) < PLAIN[name]
    if name == "TextIOWrapper":
        return len(node.args) < 2
    owner = getattr(node.func, "value", None)
    if isinstance(owner, ast.Name) and owner.id in ("os", "archive", "stage"):
        return False
    if name == "open" and owner is not None and not all(map(_is_text, node.args)):
        return False  # not a file's: a Path's mode comes first
    words = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
    modes = [w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)]
    default = "w+b" if name == "NamedTemporaryFile" else "r"
    return not any("b" in mode for mode in (modes or [default]))


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT)) for p in SOURCES])
def test_each_text_says_its_encoding(path: Path) -> None:
    assert list(unsaid(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open(p)", True),
        ("p.open()", True),
        ("p.open('w')", True),
        ("open(p, mode='a')", True),
        ("p.read_text()", True),
        ("p.write_text(x)", True),
        ("subprocess.run(w, text=True)", True),
        ("subprocess.Popen(w, universal_newlines=True)", True),
        ("io.TextIOWrapper(raw)", True),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("open(p, 'rb')", False),
        ("p.open('wb')", False),
        ("p.open(encoding='utf-8')", False),
        ("p.read_text('utf-8')", False),
        ("p.read_bytes()", False),
        ("os.open(p, os.O_RDONLY)", False),
        ("subprocess.run(w)", False),
        ("subprocess.run(w, text=True, encoding='utf-8')", False),
        ("tempfile.NamedTemporaryFile()", False),
    ],
)
def test_the_check_can_fail(source: str, found: bool) -> None:
    assert bool(list(unsaid(source))) == found
