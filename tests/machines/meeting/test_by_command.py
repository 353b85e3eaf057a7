"""Commands that start foremen: how they end, in words, and that nothing of them is left."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from vllm_bench.errors import UsageError
from vllm_bench.machines import asked
from vllm_bench.machines.engines import by_command
from vllm_bench.machines.engines.by_command import ByCommand
from vllm_bench.machines.engines.engine import MachinesError

from tests.machines.meeting.test_door import opened
from tests.machines.running import KEY
from tests.support.beside.waiting import LIMIT_S, wait_until
from tools.hostile.processes import lives

AT = "127.0.0.1:9"


def script(text: str) -> str:
    """Return a command that runs a text of Python."""
    return shlex.join([sys.executable, "-c", text])


@pytest.mark.parametrize("text", ["", "  ", "a 'b"])
def test_what_is_no_command_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="--senders"):
        ByCommand([text], os.environ)


@pytest.mark.process
def test_each_gets_the_address_its_number_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_command, "LET_END_S", LIMIT_S)  # they end by themselves
    told = script(
        "import sys, pathlib; where, of, number = sys.argv[2].rpartition('/');"
        "pathlib.Path(sys.argv[1], number).write_bytes(where.encode() + sys.stdin.buffer.read())"
    )
    engine = ByCommand([f"{told} {tmp_path}"] * 2, os.environ)
    assert engine.attach().count == 2
    engine.start(AT, KEY)
    engine.stop()
    assert [(tmp_path / str(n)).read_bytes() for n in (0, 1)] == [AT.encode() + KEY] * 2


@pytest.mark.parametrize("text", ["no-such-command-here --x", "/etc/passwd", "/no/such/file", "/"])
def test_a_program_that_is_not_there_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=text.split(maxsplit=1)[0]):
        ByCommand([text], {})


@pytest.mark.process
def test_what_was_killed_has_no_exit_code_but_a_signal() -> None:
    engine = ByCommand([script("import os; os.kill(os.getpid(), 9)")], os.environ)
    engine.start(AT, KEY)
    assert "ended with signal 9: " in wait_until(engine.ended)


@pytest.mark.process
def test_its_last_words_are_told_safely() -> None:
    words = r"print('first'); print('\x1b[31m' + 'x' * 5000, file=sys.stderr); sys.exit(7)"
    engine = ByCommand([script(f"import sys; {words}")], os.environ)
    engine.start(AT, KEY)
    said = wait_until(engine.ended)
    assert "xxx" in said.partition("exit code 7: ")[2]
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 1000
    engine.stop()


@pytest.mark.process
def test_who_has_not_come_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_command, "LET_END_S", 0.2)
    waits = "import sys, time; print(sys.argv[1], file=sys.stderr, flush=True); time.sleep(1000)"
    engine = ByCommand([f"{script(waits)} word-{n}" for n in range(2)], os.environ)
    engine.start(AT, KEY)
    try:
        for came, word in (((), "word-0"), (("0",), "word-1"), (("1", "9", ""), "word-0")):
            wait_until(lambda: (engine.missing(came) or "").endswith(f": {word}"))  # noqa: B023
        assert engine.missing(("0", "1")) is None
        with opened(wanted=2) as door, pytest.raises(MachinesError, match=r"word-0$"):
            asked._gathered(door, engine, 2, 0.0, print)
    finally:
        engine.stop()


@pytest.mark.process
@pytest.mark.parametrize("stands", [False, True])
def test_nothing_is_left_of_one_that_hears_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    monkeypatch.setattr(by_command, "LET_END_S", 0.2)
    deaf = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = os.fork(); pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(1000)"
    )
    engine = ByCommand([f"{script(deaf)} {tmp_path}"], os.environ)
    engine.start(AT, KEY)
    pids = wait_until(
        lambda: len(found := [int(one.name) for one in tmp_path.iterdir()]) == 2 and found
    )
    if stands:
        os.kill(min(pids), signal.SIGSTOP)
    engine.stop()
    wait_until(lambda: not any(map(lives, pids)))
