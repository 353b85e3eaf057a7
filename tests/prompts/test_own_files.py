"""Files that people really have: downloaded sets, chats, tables, and what editors make of them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from vllm_bench.prompts.prompt import Message
from vllm_bench.prompts.source import load_source

from tests.support.data_sets import SCHEMAS, error, load_prompts, texts, write

BEES, ABEJAS = "How do bees find their way home?", "¿Cómo vuelven las abejas a casa?"
WORD = "Pick the word that doesn't belong.\n\nplum, pear, hammer, fig"
RAIN = "Write a rhyme about rain."
LIGHTHOUSE = "When did the lighthouse start working?\n\nThe lighthouse was lit in 1871"
LOCK = "Explain how a canal lock lifts a boat"
POEM = "Write a poem, with a comma"


def zipped(data: bytes) -> bytes:
    """Pack it, without the time of day: it is in a test's name."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("name", "found", "left_out"),
    [
        (
            "dolly.jsonl",
            [
                f"{LIGHTHOUSE}.[3] It is 31 m high [12] and white.",
                "Name three herbs that survive a cold winter.",
                f"{LOCK}, and write it for a child: naïve, but right.",
            ],
            {"empty": 1, "repeated": 1},
        ),
        ("alpaca.jsonl", [WORD, RAIN], {}),
        ("alpaca_data.json", [WORD, RAIN], {}),
        (
            "oasst1.jsonl",
            [BEES, ABEJAS, "Plan a week of dinners without onions."],
            {"later in a conversation": 2, "deleted": 1, "written by a model": 1},
        ),
        (
            "oasst1.trees.jsonl",
            [BEES, ABEJAS],
            {"deleted": 1, "written by a model": 1, "without a human prompt": 1},
        ),
        (
            "sharegpt_v3.json",
            ["Summarize this letter in two lines.", "Go on from there."],
            {"without a human prompt": 2},
        ),
        (
            "batch.jsonl",
            ["You are brief.\n\nHello world!", "Name a fish.", "Once upon a time", "Name a bird."],
            {},
        ),
        (
            "agents.jsonl",
            [
                "What is the weather in Oslo?",
                "Be brief.\n\nHi\n\nHello.\n\nName a city.",
                "Old style.",
            ],
            {},
        ),
        (
            "questions.csv",
            [POEM, "Two lines:\r\nhere is the other", 'She said ""hi"" and left'],
            {"empty": 1, "repeated": 1},
        ),
        ("questions.tsv", ["Who built it?\n\nThe bridge was built by Ada.", "Why?"], {}),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_downloaded_files_are_read_as_they_are(
    tmp_path: Path, name: str, found: list[str], left_out: dict[str, int], packed: bool
) -> None:
    data = (SCHEMAS / name).read_bytes()
    dataset = write(tmp_path, name + ".gz" * packed, gzip.compress(data) if packed else data)
    source = load_source(dataset, cache_dir=tmp_path)
    assert [prompt.text for prompt in source.prompts] == found
    assert source.left_out == left_out
    (told,) = source.notes or ("",)
    assert sorted(map(int, re.findall(r"\b\d+\b", told.rpartition(":")[2]))) == sorted(
        left_out.values()
    )


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "One"},
        {"question": "One", "answer": "1"},
        {"query": "One"},
        {"input": "One", "ideal": "1"},
        {"inputs": "One"},
        {"text": "One", "label": 1},
        {"content": "One"},
        {"Prompt": "One"},
        {"prompt": "One", "messages": None},
        {"prompt": None, "question": "One"},
        {"instruction": "One", "input": "", "context": None},
        {"prompt": [{"role": "user", "content": "One"}]},
        {"input": [{"role": "user", "content": "One"}]},
        {"conversation": [{"role": "user", "content": "One"}]},
        {"conversations": [{"role": "human", "content": "One"}, {"role": "gpt", "content": 1}]},
        {"messages": [{"from": "human", "value": "One"}]},
        {"body": {"messages": [{"role": "user", "content": "One"}]}, "custom_id": "1"},
        [{"role": "user", "content": "One"}, {"role": "assistant", "content": None}],
        {"turns": [{"role": "user", "content": "One"}]},
        {"role": "user", "content": "One"},
        {"text": "One", "role": "prompter"},
        "One",
    ],
    ids=json.dumps,
)
def test_one_prompt_in_every_shape(tmp_path: Path, row: object) -> None:
    files = {"a.jsonl": json.dumps(row), "b.json": json.dumps({"data": [row]}, indent=1)}
    if isinstance(row, dict):  # a list by itself is the list of rows
        files["a.json"] = json.dumps(row, indent=1)
    for name, content in files.items():
        assert texts(write(tmp_path, name, content), tmp_path) == ["One"], name


def test_a_rows_own_system_prompt_goes_with_it(tmp_path: Path) -> None:
    rows = [
        {"system_prompt": "Be kind.", "question": "One", "response": "1"},
        {"system": "", "prompt": "Two"},
    ]
    name = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    first, second = load_prompts(name, cache_dir=tmp_path)
    assert first.messages == (Message("system", "Be kind."), Message("user", "One"))
    assert second.messages == (Message("user", "Two"),)


LINES = "One\nTwo"


@pytest.mark.parametrize("name", ["a.txt", "a", "a.prompts"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES + "\n",
        LINES.replace("\n", "\r\n"),
        LINES.replace("\n", "\r"),
        LINES.encode("utf-8-sig"),
        LINES.encode("utf-16"),
        b"\xfe\xff" + LINES.encode("utf-16-be"),
        LINES.encode("utf-32"),
        zipped(LINES.encode("utf-16")),
        "One\n\n \nOne\nTwo\n",
    ],
)
def test_a_text_may_come_from_any_editor(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert texts(write(tmp_path, name, content), tmp_path) == ["One", "Two"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_lines_and_tables_may_too(tmp_path: Path, end: str, encoding: str) -> None:
    rows = {
        "a.jsonl": ['{"prompt": "naïve, é"}', "", '{"prompt": "Two"}'],
        "a.csv": ["prompt,n", '"naïve, é",1', "Two,2"],
        "b.csv": ["n;prompt", "1;naïve, é", "", "2;Two"],
        "a.tsv": ["n\tprompt", "1\tnaïve, é", "2\tTwo"],
        "a.json": ["[", '"naïve, é",', '"Two"', "]"],
    }
    for name, lines in rows.items():
        data = (end.join(lines) + end).encode(encoding)
        assert texts(write(tmp_path, name, data), tmp_path) == ["naïve, é", "Two"], name


def test_a_text_stays_as_it_is(tmp_path: Path) -> None:
    lines = [
        "  indented, and blanks after it  ",
        "a\u2028b\x0cc",
        '{"a": 1} as YAML',
        "x" * 3_000_000,
    ]
    assert texts(write(tmp_path, "a.txt", "\n".join(lines)), tmp_path) == lines
    cell = ' "a, b"\n\tc ' + "y" * 200_000
    table = 'prompt,n\n"' + cell.replace('"', '""') + '",1\n'
    assert texts(write(tmp_path, "a.csv", table), tmp_path) == [cell]
    assert texts(write(tmp_path, "a.jsonl", json.dumps({"prompt": cell})), tmp_path) == [cell]


def test_blank_lines_of_a_text_are_counted(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, "a.txt", "One\n\n\nOne\nTwo\n"), cache_dir=tmp_path)
    assert source.left_out == {"empty": 2, "repeated": 1}


def chat(*turns: object) -> str:
    return json.dumps({"messages": [{"role": "user", "content": "Hi"}, *turns]}) + "\n"


USER = {"role": "user", "content": "And now?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:…"}}


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("a.jsonl", chat() + chat({"role": "tool", "content": "3"}, USER), ["line 2", "tool"]),
        ("a.jsonl", chat({"role": "assistant", "content": None}, USER),
         ["line 1", "messages[1].content", "nothing"]),
        ("a.jsonl", chat({"role": "assistant", "content": "x", "tool_calls": [{}]}, USER),
         ["line 1", "messages[1]", "tool"]),
        ("a.jsonl", chat({"role": "user", "content": [IMAGE]}), ["messages[1]", "image_url"]),
        ("a.jsonl", chat({"role": "user", "content": ["x"]}), ["messages[1]", "a text"]),
        ("a.jsonl", chat({"role": "user"}), ["messages[1].content", "nothing"]),
        ("a.jsonl", chat({"role": "me", "content": "x"}, USER), ["messages[1].role", "system"]),
        ("a.jsonl", '{"messages": null}', ["line 1", "messages"]),
        ("a.jsonl", '{"body": ' * 900 + '{"prompt": "x"}' + "}" * 900, ["line 1", "body"]),
        ("a.jsonl", '{"a\\nb": 3}', ["line 1", "a b"]),
        ("a.jsonl", '{"prompt": null}', ["line 1", "prompt", "nothing"]),
        ("a.jsonl", '{"prompt": [1, 2]}', ["line 1", "prompt", "a list"]),
        ("a.jsonl", '{"instruction": "x", "input": ["y"]}', ["line 1", "input", "a list"]),
        ("a.jsonl", '{"prompt": "x", "system": 3}', ["line 1", "system", "a number"]),
        ("a.jsonl", '{"prompt": NaN}', ["line 1", "not JSON"]),
        ("a.json", '[\n{"prompt": "x"},\n\n{"prompt": 3}]', ["entry 2", "line 4", "a number"]),
        ("a.json", '{"data": [{"prompt": "x"}, {"prompt": 3}]}', ["entry 2", "a number"]),
        ("a.json", '{\n "prompt": "x",\n}', ["line 2", "not JSON"]),
        ("a.txt", '{\n "prompt": "x",\n}', ["line 2", "not JSON"]),
        ("a.json", '{"prompt": "x"}\n{"prompt": "y"\n', ["line 2", "not JSON"]),
        ("a.csv", "a,b\n1,2\n", ["line 1", "prompt", "a,b", ".txt"]),
        ("a.csv", ",\n1,2\n", ["line 1", "prompt"]),
        ("a.csv", "prompt,n\nTell me, please,1\n", ["line 2", "3", "2", "quotes"]),
        ("a.csv", 'prompt,n\n"a\nb",1\nc\n', ["line 4", "1", "2"]),
        ("a.csv", 'prompt,n\nx,1\n"y,2\n', ["line 3"]),
        ("a.csv", 'prompt,n\n"x"y,1\n', ["line 2"]),
        ("a.csv", "prompt,Prompt\nx,y\n", ["line 1", "prompt", "twice"]),
        ("a.csv", "prompt\n", ["no prompts"]),
        ("a.tsv", "prompt,n\nx,1\n", ["line 1", "prompt"]),
        ("a.txt", b"One\nT\0wo", ["line 2", "NUL"]),
        ("a.txt", "One\nTwo".encode("utf-16-le"), ["UTF-16", "iconv"]),
        ("a.txt", "One".encode("utf-16") + b"\0", ["UTF-16"]),
        ("a.txt", b"caf\xe9 au lait", ["line 1", "iconv"]),
        ("a.jsonl.gz", zipped(b'"x"')[:-4], ["gzip"]),
        ("a.jsonl.gz", b"\x1f\x8bnonsense", ["gzip"]),
        ("a.gz", zipped(zipped(b"x")), ["packed"]),
        ("a.gz", zipped(b""), ["empty"]),
        ("a.xlsx", b"PK\x03\x04\0\0", ["CSV"]),
        ("a.parquet", b"PAR1\x15\x04", ["Parquet"]),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x04", ["zstd"]),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", ["LFS"]),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_by_line_and_reason(
    tmp_path: Path, name: str, content: str | bytes, facts: list[str]
) -> None:
    dataset = write(tmp_path, name, content)
    found = error(dataset, tmp_path)
    assert found.startswith(f"{dataset}: ")
    assert [fact for fact in facts if fact not in found] == [], found


def test_a_packed_file_that_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_bench.prompts.own.files.MOST_BYTES", 2 << 20)
    dataset = write(tmp_path, "a.txt.gz", gzip.compress(b"word " * 1_000_000))
    assert "unpacked" in error(dataset, tmp_path)
