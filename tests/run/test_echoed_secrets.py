"""Secrets that a server echoes in every way: in no file, table, page or line of a run."""

from __future__ import annotations

import base64
import html
import json
import random
import string
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.far_end import LAST_CHUNK, SSE_HEAD, Step, TinyVllm, chunk, event
from tests.support.running import run_bench, run_script, tiny_scenario

pytestmark = pytest.mark.process

REQUESTS = 48
DRAW = random.Random(15)
ESCAPES: list[Callable[[str], str]] = [
    str,
    str.upper,
    urllib.parse.quote,
    lambda s: json.dumps(s)[1:-1],
    html.escape,
    lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    lambda s: s.replace("  ", " "),
    lambda s: s.replace(" ", "   "),
]


def made(length: int, characters: str = string.ascii_letters + string.digits + "-_/+=&<'\"") -> str:
    return "".join(DRAW.choice(characters) for _ in range(length))


SECRETS = {
    "key": "sk-" + made(40),
    "blanks": f"{made(12)}  {made(14)}",
    "body": made(24),
}


def echo(draw: random.Random) -> str:
    """Return a text in which a secret stands anywhere, encoded in any way, across cuts too."""
    secret = draw.choice(ESCAPES)(draw.choice([*SECRETS.values()]))
    return "x" * draw.choice([0, 1, 30, 80, 270, 290, 470, 490]) + f" {secret} is wrong"


def misbehave(number: int) -> list[Step]:
    draw = random.Random(number)
    said = echo(draw)
    body = draw.choice(
        [
            json.dumps({"error": {"message": said, "code": 401}}),
            json.dumps({"detail": [said]}),
            json.dumps({"odd": {"deep": said}}),
            f"<html>{said}</html>",
        ]
    ).encode()
    plain = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": said}
    return draw.choice(
        [
            [plain % (draw.choice([400, 401, 403, 500]), len(body), body)],
            [SSE_HEAD, chunk(event({"error": {"message": said}})), LAST_CHUNK],
            [SSE_HEAD, chunk(event({"model": said[-150:], "choices": [choice]})), LAST_CHUNK],
            [SSE_HEAD, chunk(f"data: {{{said}\n\n".encode()), LAST_CHUNK],
            [
                SSE_HEAD,
                chunk(event({"system_fingerprint": said, "choices": [choice]})),
                LAST_CHUNK,
            ],
        ]
    )


def shown(folder: Path, words: list[subprocess.CompletedProcess[str]]) -> Iterator[tuple[str, str]]:
    for done in words:
        yield str(done.args[1]), done.stdout + done.stderr
    for path in (folder / "results").rglob("*"):
        if path.is_file() and path.suffix != ".npz":
            yield str(path), path.read_text()


def pieces() -> set[str]:
    """Every 8 characters of each secret, as it is and in base64 after `user:`."""
    coded = [base64.b64encode(f"user:{s}".encode()).decode()[8:-4] for s in SECRETS.values()]
    one_blank = [" ".join(s.split()) for s in SECRETS.values()]
    return {t[i : i + 8] for t in [*one_blank, *coded] for i in range(len(t) - 7)}


def test_no_file_table_page_or_line_of_a_run_shows_a_secret_that_the_server_echoes(
    tiny_vllm: TinyVllm, tmp_path: Path
) -> None:
    tiny_vllm.misbehave = misbehave
    path = tiny_scenario(
        tmp_path,
        tiny_vllm.base_url,
        concurrencies=[2],
        num_requests=REQUESTS,
        warmup_requests=2,
        api_key_env="THE_KEY",
        headers={"X-Blanks": SECRETS["blanks"]},
        extra_body={"metadata": {"access_token": SECRETS["body"]}},
    )
    dry = run_bench(tmp_path, path, "--dry-run", THE_KEY=SECRETS["key"])
    ran = run_bench(tmp_path, path, THE_KEY=SECRETS["key"])
    assert dry.returncode == 0, dry.stderr
    assert ran.returncode == 4, ran.stderr
    where = ("--results-dir", tmp_path / "results")
    read = [run_script(f"bench/{name}.py", *where) for name in ("summarize", "report")]
    files = dict(shown(tmp_path, [dry, ran, *read]))
    assert any(name.endswith("report.html") for name in files)
    assert sum(text.count("***") for text in files.values()) > REQUESTS
    for name, text in files.items():
        plain = " ".join(text.split())
        leaked = {piece for piece in pieces() if piece in plain or piece.upper() in plain}
        assert not leaked, name
