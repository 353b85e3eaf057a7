"""Files and folders of sessions: told apart by what is in them, and refused with a reason."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from vllm_bench.sessions.read import FORMATS, is_session_trace, read_sessions
from vllm_bench.sessions.session import SessionError

from tests.sessions.made import DATA, lines, read, refusal, tool, weka
from tests.traces.test_trace import AZURE, BURSTGPT, MOONCAKE

KINDS = {
    "weka": "weka",
    "weka/agent.json": "weka",
    "bailian.jsonl": "bailian",
    "tracelab.jsonl": "tracelab",
    "mlperf.jsonl": "mlperf",
    "aiperf.jsonl": "aiperf",
    "aiperf_dag.jsonl": "aiperf_dag",
    "otel.json": "opentelemetry",
    "otlp.json": "opentelemetry",
}


def test_each_format_has_a_file_here() -> None:
    assert {*KINDS.values()} == {form.kind for form in FORMATS}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    assert is_session_trace(DATA / name)
    found = read_sessions(DATA / name)
    assert found is not None
    assert found.kind == KINDS[name]
    if (DATA / name).is_file():
        other = tmp_path / "prompts.csv"
        shutil.copy(DATA / name, other)
        assert read_sessions(other) == found


@pytest.mark.parametrize("name", [name for name in KINDS if name != "weka"])
def test_a_file_may_be_packed_and_indented(tmp_path: Path, name: str) -> None:
    found = read_sessions(DATA / name)
    content = (DATA / name).read_bytes()
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf\n" + content.replace(b"\n", b"\r\n"))
    rows = [json.loads(line) for line in content.splitlines()]
    (tmp_path / "list").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for made in ("packed", "marked", "list"):
        assert read_sessions(tmp_path / made) == found


@pytest.mark.parametrize("content", [AZURE, BURSTGPT, MOONCAKE])
def test_a_trace_of_requests_is_left_to_others(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace"
    path.write_text(content, encoding="utf-8")
    assert not is_session_trace(path)
    assert read_sessions(path) is None


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"session_id": "a", "input_length": 3, "output_length": 1, "timestamp": 0}, "Mooncake"),
        ({"session_id": "a", "session_context": {"node_id": 0}}, "veeksha"),
        ({"session_id": "a", "turns": [{"llm_calls": []}]}, "Copilot"),
        ({"session_id": "a", "timestamp": 0, "input": "x", "output": "y"}, "LMCache"),
        ({"group": 0, "prompt_len": 3, "out_lens": [1], "obs_lens": [1]}, "tpu-inference"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "dataset: file:"),
        ({"messages": [{"role": "user", "content": "x"}]}, "dataset: file:"),
        ({"question": "x", "answer": "y"}, "has the keys question, answer"),
        ({}, "no keys"),
    ],
)
def test_what_looks_otherwise_is_refused_with_what_is_read(
    tmp_path: Path, row: dict[str, object], what: str
) -> None:
    text = refusal(tmp_path, lines([row]))
    assert what in text
    for form in FORMATS:
        assert f"({form.kind})" in text
    assert not is_session_trace(tmp_path / "trace")


def test_text_is_refused_with_its_first_line(tmp_path: Path) -> None:
    assert "'once upon a time'" in refusal(tmp_path, "once upon a time\nthere was\n")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", ": empty"),
        (" \n\n", ": empty"),
        ('{"id": "a"', ": line 1: not JSON"),
        ('{"id": "a",\n\n"b"}', ": line 3: not JSON"),
        ("[1, 2]", ": line 1: entry 1: expected an object"),
        ((DATA / "bailian.jsonl").read_text("utf-8") + "{\n", ": line 6: not JSON"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path: Path, content: str, what: str) -> None:
    assert refusal(tmp_path, content).startswith(what)


def test_a_packed_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(gzip.compress((DATA / "tracelab.jsonl").read_bytes())[:-12])
    with pytest.raises(SessionError, match="gzip is cut off"):
        read_sessions(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "missing", "NUL"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a\0b" if kind == "NUL" else "trace")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    assert not is_session_trace(path)
    with pytest.raises(SessionError, match="can't be read"):
        read_sessions(path)


def test_a_line_without_an_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm_bench.sessions.rows.MOST_ROW", 1000)
    session = weka(*(tool(5 * n, 128) for n in range(40)))
    assert refusal(tmp_path, session) == ": line 1: longer than 1,000 bytes"
    assert refusal(tmp_path, json.dumps(session, indent=1)) == ": line 1: longer than 1,000 bytes"


# Folders


def test_the_order_and_the_names_of_files_say_nothing(tmp_path: Path) -> None:
    shutil.copy(DATA / "weka" / "agent.json", tmp_path / "z")
    shutil.copy(DATA / "weka" / "short.json", tmp_path / "a.txt")
    one, other = read_sessions(tmp_path), read_sessions(DATA / "weka")
    assert one is not None
    assert other is not None
    assert one.sessions == other.sessions
    assert other.left_out == {"files that hold no sessions": 1}  # its licence
    assert one.left_out == {}


def test_a_folder_has_one_format(tmp_path: Path) -> None:
    shutil.copy(DATA / "tracelab.jsonl", tmp_path / "b")
    shutil.copy(DATA / "weka" / "short.json", tmp_path / "a")
    with pytest.raises(SessionError, match="a looks like weka, b like tracelab"):
        read_sessions(tmp_path)


def test_a_session_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(DATA / "weka" / "short.json", tmp_path / name)
    with pytest.raises(SessionError, match="session short is there twice"):
        read_sessions(tmp_path)


def test_a_damaged_file_of_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    shutil.copy(DATA / "weka" / "short.json", tmp_path / "a")
    (tmp_path / "b").write_text('{"id": "b", "block_size": 64, "requests": [', encoding="utf-8")
    assert is_session_trace(tmp_path)
    with pytest.raises(SessionError, match="b: line 1: not JSON"):
        read_sessions(tmp_path)


def test_bailians_ids_are_of_one_file(tmp_path: Path) -> None:
    shutil.copy(DATA / "bailian.jsonl", tmp_path / "a")
    shutil.copy(DATA / "bailian.jsonl", tmp_path / "b")
    with pytest.raises(SessionError, match=r"b: line 1: .*a second file|chat_id 7 is there twice"):
        read_sessions(tmp_path)


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", AZURE])
def test_a_folder_without_sessions_is_refused(tmp_path: Path, content: str | None) -> None:
    (tmp_path / ".hidden").write_text("{}", encoding="utf-8")
    if content is not None:
        (tmp_path / "one").write_text(content, encoding="utf-8")
    assert not is_session_trace(tmp_path)
    with pytest.raises(SessionError, match=r"a folder without files|no file has sessions"):
        read_sessions(tmp_path)


def test_sessions_stand_in_the_order_of_their_starts(tmp_path: Path) -> None:
    found = read(tmp_path, (DATA / "bailian.jsonl").read_text(encoding="utf-8"))
    starts = [session.starts_s for session in found.sessions]
    assert starts == sorted(starts, key=lambda start: start or 0.0)
    assert starts[0] == 0
