"""Pictures in a file of prompts: read, sent as data URLs, and refused where they can't be."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.request import make_body
from vllm_bench.prompts.count import EstimateCounter
from vllm_bench.prompts.fit import Draw, choose_prompts
from vllm_bench.prompts.listing import json_lines, listing
from vllm_bench.prompts.own.files import read_prompt_file
from vllm_bench.prompts.prompt import CountedBy, Prompt, PromptError

from tests.plan.test_request import scenario


def png(red: int = 0, side: int = 8) -> bytes:
    """Return a picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    row = b"\0" + bytes((red, 0, 0)) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row * side)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def asked(*urls: object, text: str = "What is it?") -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": url} for url in urls]
    content = [images[0], {"type": "text", "text": text}, *images[1:]]
    return {"messages": [{"role": "user", "content": content}]}


def file_of(folder: Path, *rows: object) -> Path:
    path = folder / "seen.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_path_a_data_url_and_a_bare_url_are_the_same_picture_in_their_order(
    tmp_path: Path,
) -> None:
    (tmp_path / "red.png").write_bytes(png(9))
    url = data_url(png(9))
    rows = [asked({"url": "red.png"}), asked({"url": url}), asked("red.png"), asked(url, url)]
    found = read_prompt_file(file_of(tmp_path, *rows))
    assert found.left_out == {"repeated": 2}
    one, two = found.prompts
    assert (one.pictures, two.pictures) == (1, 2)
    body = orjson.loads(make_body(scenario(endpoint="chat"), one, None))
    assert body["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is it?"},
    ]
    body = orjson.loads(make_body(scenario(endpoint="responses"), one, None))
    assert [part["type"] for part in body["input"][0]["content"]] == ["input_image", "input_text"]
    assert body["input"][0]["content"][0]["image_url"] == url


def test_other_pictures_make_another_prompt(tmp_path: Path) -> None:
    rows = [asked(data_url(png(red))) for red in (1, 2)]
    one, two = read_prompt_file(file_of(tmp_path, *rows)).prompts
    assert one.text == two.text
    assert one.content_sha256 != two.content_sha256


def test_prompts_are_listed_without_their_bytes_and_written_so_that_they_are_read_again(
    tmp_path: Path,
) -> None:
    found = read_prompt_file(file_of(tmp_path, asked(data_url(png()))))
    assert all(len(line) < 200 for line in listing(found.prompts))
    (tmp_path / "again.jsonl").write_bytes(json_lines(found.prompts))
    again = read_prompt_file(tmp_path / "again.jsonl")
    assert again.prompts[0].content_sha256 == found.prompts[0].content_sha256


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/cat.png", ["fetched", "http://example.org/cat.png"]),
        ("missing.png", ["No", "such"]),
        ("data:image/png;base64,%%%", ["base64:"]),
        ("words.txt", ["PNG,", "JPEG,"]),
        ({"uri": "x"}, ["text,"]),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_named_with_its_line(
    tmp_path: Path, url: object, words: list[str]
) -> None:
    (tmp_path / "words.txt").write_text("no picture")
    path = file_of(tmp_path, asked(data_url(png())), asked(url))
    with pytest.raises(PromptError) as e:
        read_prompt_file(path)
    assert {*words, "2:"} <= set(str(e.value).split())
    assert "\n" not in str(e.value)


def test_pictures_that_memory_has_no_room_for_are_refused_and_one_in_many_prompts_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.prompts.own.images.MOST_IN_ALL", 3 * len(data_url(png())) + 9)
    for red in range(4):
        (tmp_path / f"{red}.png").write_bytes(png(red))
    same = [asked("0.png", text=f"Look {n}.") for n in range(20)]
    found = read_prompt_file(file_of(tmp_path, *same)).prompts
    assert len(found) == 20
    with pytest.raises(PromptError, match="memory"):
        read_prompt_file(file_of(tmp_path, *(asked(f"{red}.png") for red in range(4))))


class TwoHundredAPicture:
    """Counts as a server does that takes 200 tokens for a picture."""

    notes = ()

    def __init__(self, method: CountedBy) -> None:
        self.method = method

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        return [5 + 200 * prompt.pictures for prompt in prompts]


def test_a_prompt_is_as_long_as_it_is_counted_with_its_pictures(tmp_path: Path) -> None:
    rows = [asked(data_url(png(1))), {"prompt": "What is it?"}, asked(data_url(png(2)))]
    found = read_prompt_file(file_of(tmp_path, *rows))
    chosen = choose_prompts(Draw(found, 2, 0, TwoHundredAPicture("server")), "natural", 200)
    assert [prompt.pictures for prompt in chosen.prompts] == [1, 1]
    assert not [note for note in chosen.notes if "picture" in note]


@pytest.mark.parametrize("method", ["tokenizer", "estimate"])
def test_who_cannot_count_pictures_says_so(tmp_path: Path, method: CountedBy) -> None:
    found = read_prompt_file(file_of(tmp_path, asked(data_url(png(1)))))
    chosen = choose_prompts(Draw(found, 1, 0, TwoHundredAPicture(method)), "natural", None)
    assert [note for note in chosen.notes if "picture" in note]


def test_packed_prompts_have_no_pictures(tmp_path: Path) -> None:
    found = read_prompt_file(file_of(tmp_path, asked(data_url(png()))))
    with pytest.raises(PromptError, match="pictures"):
        choose_prompts(Draw(found, 1, 0, EstimateCounter()), "packed", 100)


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_any_address_makes_a_prompt_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, url: str | bytes
) -> None:
    given = url if isinstance(url, str) else data_url(url)
    path = file_of(tmp_path_factory.mktemp("images"), asked(given))
    try:
        found = read_prompt_file(path)
    except PromptError as e:
        assert "\n" not in str(e)  # noqa: PT017
    else:
        assert found.prompts[0].pictures == 1
