"""sender.py by itself: how it ends, with which exit code, and in how many words."""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sender
from vllm_bench import script
from vllm_bench.machines.door import Arrived, Door, open_door
from vllm_bench.machines.facts import machine_facts
from vllm_bench.machines.meeting.address import Address
from vllm_bench.machines.messages import LetGo, Told

from tests.machines.running import HASTY, KEY, ONE, ROOT, over, run_load, said, started
from tests.sim.simulated import Simulated
from tests.support.beside.ports import free_port
from tests.support.beside.waiting import wait_until
from tests.support.frames import read_frame

PATH = f"{ROOT / 'bench'}:{ROOT}"


@contextlib.contextmanager
def door(wanted: int = 1) -> Iterator[Door]:
    """Be the head."""
    with open_door(Address("127.0.0.1", 0), KEY, wanted, machine_facts()) as opened:
        yield opened


@contextlib.contextmanager
def foreman(folder: Path, *words: object, stdin: bytes = KEY, hasty: bool = False) -> Iterator[Any]:
    """Start one."""
    command = [ONE.split()[0], str(HASTY), "sender.py"] if hasty else ONE.split()
    with started([*command, *map(str, words)], folder, stdin, PYTHONPATH=PATH) as process:
        yield process


def arrived(opened: Door) -> Arrived:
    (one,) = wait_until(opened.whole)
    return one


def a_line(text: str) -> bool:
    return text.count("\n") == 1 and text.startswith("sender.py: ")


@pytest.mark.process
def test_it_is_let_go_at_the_end_of_the_session(tmp_path: Path) -> None:
    with door() as opened, foreman(tmp_path, opened.address, stdin=KEY + b"\r\n") as one:
        pipes = arrived(opened).pipes
        pipes["orders"].send(Told("a run that is over", "stop"))
        pipes["orders"].send(LetGo())
        assert said(one) == (0, "")


@pytest.mark.process
def test_it_says_that_its_head_was_lost_or_is_silent(tmp_path: Path) -> None:
    with door() as opened, foreman(tmp_path, opened.address) as one:
        for pipe in arrived(opened).pipes.values():
            pipe.close()
        code, text = said(one)
        assert code == 1
        assert a_line(text)
    with door() as opened, foreman(tmp_path, opened.address, hasty=True) as one:
        pipes = arrived(opened).pipes
        pipes["clock"].send(1)
        assert pipes["clock"].recv()[0] == 1
        code, text = said(one)  # nobody asks for its clock any more, and no connection ends
        assert code == 1
        assert a_line(text)
        assert pipes["orders"].poll(0)  # it has hung up


@pytest.mark.process
def test_who_comes_late_goes_with_a_word(tmp_path: Path) -> None:
    with door() as opened, foreman(tmp_path, opened.address) as first:
        pipes = arrived(opened).pipes
        with foreman(tmp_path, opened.address) as late:
            code, text = said(late)
        assert code == 0
        assert text.count("\n") == 1
        assert first.poll() is None
        pipes["orders"].send(LetGo())
        assert said(first)[0] == 0


@pytest.mark.process
def test_another_key_is_wrong_usage_and_the_head_counts_it(tmp_path: Path) -> None:
    with door() as opened:
        with foreman(tmp_path, opened.address, stdin=KEY[::-1]) as one:
            code, text = said(one)
        assert code == 2
        assert a_line(text)
        assert KEY.decode() not in text
        assert KEY[::-1].decode() not in text
        wait_until(lambda: opened.turned_away == 1)


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (["127.0.0.1"], KEY, 2),
        (["127.0.0.1:0"], KEY, 2),
        (["127.0.0.1:9", "--wait-s", "0"], b"short\n", 2),
        (["127.0.0.1:9", "--wait-s", "0"], b"", 2),
        (["127.0.0.1:9", "--wait-s", "0"], KEY, 1),
        (["no-such-host.invalid:9", "--wait-s", "0"], KEY, 1),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    stdin: bytes,
    code: int,
) -> None:
    monkeypatch.setattr(sys, "argv", ["sender.py", *words])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    monkeypatch.setattr(script, "set_handlers", lambda _: None)  # this process goes on
    assert script.run(sender.main) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert a_line(err)


@pytest.mark.process
def test_strangers_and_machines_by_hand(tmp_path: Path) -> None:
    """A stranger says nothing, one has another key, two send a level of one stream, and of four."""
    port = free_port()
    key = tmp_path / "key"
    key.write_bytes(KEY + b"\n")
    at = f"127.0.0.1:{port}"
    words = ("--machines", 2, "--listen", at, "--key-file", key)
    loads = ("--concurrency", "1,4", "--num-requests", 20)  # of the first one has nothing to do
    with Simulated("--exact", "--ttft-ms", "5", "--itl-ms", "1") as server:
        done: list[Any] = []
        head = threading.Thread(
            target=lambda: done.append(run_load(tmp_path, server.url, *loads, *words))
        )
        head.start()
        with foreman(tmp_path, at, stdin=KEY[::-1]) as wrong:
            assert said(wrong)[0] == 2
        with (
            socket.create_connection(("127.0.0.1", port)),
            foreman(tmp_path, at) as one,
            foreman(tmp_path, at) as other,
        ):
            head.join()
            ends = said(one), said(other)
            assert [code for code, _ in ends] == [0, 0], (ends, done[0].stderr)
        assert len(server.truth()) == 40
    assert done[0].returncode in (0, 4), done[0].stderr  # 4: a busy machine spoilt it
    assert "turned away: 1" in done[0].stderr
    assert KEY.decode() not in done[0].stdout + done[0].stderr


@pytest.mark.process
def test_a_machine_that_does_not_reach_the_server_is_named(tmp_path: Path) -> None:
    walled = f"env PYTHONPATH={PATH} {sys.executable} {ROOT / 'tests' / 'machines' / 'walled.py'}"
    loads = ("--concurrency", 4, "--num-requests", 20)
    with Simulated("--exact", "--ttft-ms", "5", "--itl-ms", "1") as server:
        done = run_load(tmp_path, server.url, *loads, "--senders", walled, *over(1))
        assert len(server.truth()) == 10
    assert done.returncode == 4, done.stderr
    [path] = (tmp_path / "results").glob("*.csv")
    rows = read_frame(path)
    [(name, failed)] = rows[rows["error"].notna()]["machine"].value_counts().items()
    assert failed == 10
    (told,) = [line for line in done.stderr.splitlines() if "1 of 2 machines" in line]
    assert f"{name}: " in told
