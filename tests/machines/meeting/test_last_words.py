"""What a process said last: the end of it can be seen before its words are read."""

from __future__ import annotations

import io
import os
import threading
from contextlib import closing

import pytest
from vllm_bench.machines.engines import last_words
from vllm_bench.machines.engines.last_words import LastWords

from tests.support.beside.waiting import LIMIT_S


def test_words_that_are_read_after_the_end_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "LIMIT_S", LIMIT_S)
    reading, writing = os.pipe()
    words = LastWords(os.fdopen(reading, "rb"))
    assert words.so_far() == ""

    def say() -> None:
        os.write(writing, b"one\ntwo\nthree\nfour\x1b\n")
        os.close(writing)

    later = threading.Timer(0.1, say)
    later.start()
    assert words.at_end().split(" / ")[:2] == ["two", "three"]
    assert "\x1b" not in words.so_far()
    later.join()


def test_whoever_holds_the_pipe_open_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "LIMIT_S", 0.1)
    reading, writing = os.pipe()
    with closing(os.fdopen(writing, "wb", buffering=0)) as held:
        heard = threading.Event()
        words = LastWords(os.fdopen(reading, "rb"), lambda _: heard.set())
        held.write(b"so far\n")
        assert heard.wait(LIMIT_S)
        assert words.at_end() == "so far"


def test_each_line_is_heard_with_those_before_it() -> None:
    heard: list[list[str]] = []
    pipe = io.BytesIO(b"a\nb\n\xff\nd\n")
    words = LastWords(pipe, lambda lines: heard.append(list(lines)))
    words.at_end()
    assert heard == [["a"], ["a", "b"], ["a", "b", "\ufffd"], ["b", "\ufffd", "d"]]
    assert pipe.closed
