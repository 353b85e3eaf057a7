"""Who listens on a port, as far as /proc tells."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from vllm_bench.launch import ports
from vllm_bench.launch.ports import holder_of, holds, is_free, members, sockets_on

from tests.support.beside.ports import free_port


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("asked", ["", "127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_that_somebody_listens_on_is_taken(taken: str, asked: str) -> None:
    port = free_port()
    assert is_free(asked, port)
    with socket.create_server((taken, port)):
        assert not is_free(asked, port)
        found = sockets_on(port)
        assert found
        assert holds(os.getpid(), found)
        assert str(os.getpid()) in str(holder_of(port))
    assert is_free(asked, port)
    assert sockets_on(port) == set()
    assert holder_of(port) is None


def test_the_other_address_of_localhost_counts_too() -> None:
    port = free_port()  # of 127.0.0.1
    try:
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            assert not is_free("", port)
            assert is_free("127.0.0.1", port)
    except OSError:
        pytest.skip("no IPv6 here")


def test_a_connection_that_has_ended_does_not_take_a_port() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port)) as client,
        server.accept()[0] as ours,
    ):
        ours.close()  # the server's end hangs up first: it waits for a minute now
        assert client.recv(1) == b""
    assert is_free("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.9", "\0", "x" * 300])
def test_an_address_that_cannot_be_had_is_for_the_server_to_tell(host: str) -> None:
    assert is_free(host, free_port())


def test_without_proc_nobody_can_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ports, "PROC", tmp_path)
    assert sockets_on(8000) is None
    assert holder_of(8000) is None
    assert members(os.getpid()) == []


def test_a_name_with_blanks_and_brackets_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "PROC", tmp_path)
    for pid, stat in (
        (7, "7 (VLLM:: a) Z b)) S 1 5 5 0"),
        (8, "8 (x) Z 1 5 5 0"),  # it has ended
        (9, "9 (x) R 1 9 5 0"),  # of a group of its own
        (10, "10 (x) R 1 10 10 0"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat)
    assert members(5) == [7, 9]
