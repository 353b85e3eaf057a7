"""The door: whom it lets in, whom it turns away, and that nobody keeps others out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import select
import socket
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import answer_challenge, deliver_challenge

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.errors import BenchError, UsageError
from vllm_bench.machines import asked
from vllm_bench.machines import door as door_module
from vllm_bench.machines.door import Arrived, Door, open_door
from vllm_bench.machines.engines.engine import ByHand, MachinesError
from vllm_bench.machines.facts import machine_facts
from vllm_bench.machines.meeting import dial as dialling
from vllm_bench.machines.meeting.address import Address
from vllm_bench.machines.meeting.dial import NotNeededError, dial
from vllm_bench.machines.meeting.hello import KINDS, MisfitError, hello_of, hello_text
from vllm_bench.machines.messages import Hello, Kind, MachineFacts

from tests.support.beside.ports import free_port
from tests.support.beside.waiting import LIMIT_S, wait_until

KEY, OTHER = b"the key of this session", b"the key of another one"
HERE = Address("127.0.0.1", 0)
OURS = machine_facts()


def quiet(_: str) -> None:
    """Nobody listens."""


@contextlib.contextmanager
def opened(wanted: int = 1, at: Address = HERE) -> Iterator[Door]:
    """Open a door; what has come in is closed with it."""
    with open_door(at, KEY, wanted, OURS) as door:
        yield door
        arrived = door.whole()
    for one in arrived:
        close(one.pipes)


def close(pipes: dict[Kind, Pipe]) -> None:
    for pipe in pipes.values():
        pipe.close()


def come(
    door: Door, foreman: str = "a", key: bytes = KEY, facts: MachineFacts = OURS
) -> dict[Kind, Pipe]:
    """Come to the door as a foreman does."""
    return dial(door.address, key, lambda kind: Hello(kind, foreman, facts, "1"), 0.0, quiet)


def knock(door: Door) -> socket.socket:
    return socket.create_connection((door.address.host, door.address.port), timeout=LIMIT_S)


def proven(door: Door) -> Pipe:
    """Return a connection by which somebody has shown that they know the key."""
    sock = knock(door)
    sock.setblocking(True)
    pipe = Pipe(sock.detach())
    answer_challenge(pipe, KEY)
    deliver_challenge(pipe, KEY)
    return pipe


def names(arrived: list[Arrived]) -> list[str]:
    return [one.hello.foreman for one in arrived]


def test_a_foreman_comes_in_with_three_connections() -> None:
    with opened(2) as door:
        pipes = come(door)
        (one,) = door.whole()
        assert (one.hello.foreman, one.hello.called, one.hello.facts) == ("a", "1", OURS)
        for kind in pipes:
            one.pipes[kind].send(kind)
            assert pipes[kind].recv() == kind
        close(pipes)


def test_strangers_who_say_nothing_keep_nobody_out() -> None:
    with opened() as door, contextlib.ExitStack() as strangers:
        for _ in range(2 * door_module.MOST_NEWCOMERS):
            strangers.enter_context(knock(door))
        close(come(door))


def test_a_stranger_is_hung_up_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "NEWCOMER_S", 0.1)
    with opened() as door, knock(door) as stranger:
        while stranger.recv(1000):  # the challenge, and then the end
            pass
        wait_until(lambda: door.turned_away == 1)


def test_strangers_who_take_all_files_must_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "NEWCOMER_S", 0.2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened() as door, contextlib.ExitStack() as over:
        strangers = [over.enter_context(socket.socket()) for _ in range(20)]
        most = max(one.fileno() for one in strangers) + 1 + 5
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        try:
            for one in strangers:
                one.connect((door.address.host, door.address.port))
            wait_until(lambda: door.turned_away == len(strangers))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        close(come(door))


def test_what_one_said_who_came_in_lets_nobody_else_in() -> None:
    with opened(2) as door, socket.create_server(("127.0.0.1", 0)) as between:
        said: list[bytes] = []

        def listen_in() -> None:
            for _ in KINDS:
                near, _ = between.accept()
                with near, knock(door) as far:
                    while ready := select.select([near, far], [], [], 30)[0]:
                        told = ready[0].recv(65536)
                        if not told:
                            break
                        if ready[0] is near:
                            said.append(told)
                        (far if ready[0] is near else near).sendall(told)
                        if b"welcome" in told:
                            break

        threading.Thread(target=listen_in, daemon=True).start()
        where = Address("127.0.0.1", between.getsockname()[1])
        close(dial(where, KEY, lambda kind: Hello(kind, "a", OURS), 0.0, quiet))
        assert b'"a"' in b"".join(said)
        before = door.turned_away
        with knock(door) as stranger:
            stranger.sendall(b"".join(said))
            wait_until(lambda: door.turned_away == before + 1)
        assert door.whole() == []


def test_a_wrong_key_is_told_to_both_and_the_right_one_still_comes_in() -> None:
    with opened() as door:
        for _ in range(3):
            with pytest.raises(UsageError):
                come(door, key=OTHER)
        wait_until(lambda: door.turned_away == 3)
        close(come(door))


@pytest.mark.parametrize(
    "words",
    [
        *(b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x00" * 4),
        *(b"\x7f\xff\xff\xff", b"\xff" * 4 + b"\x7f" + b"\xff" * 7, b"\xff\xff\xff\xf0"),
    ],
)
def test_noise_is_turned_away(words: bytes) -> None:
    with opened() as door:
        with knock(door) as stranger:
            stranger.sendall(words)
        wait_until(lambda: door.turned_away == 1)
        close(come(door))


@pytest.mark.parametrize(
    "words", [b"", b"{}", b"\x80\x05N.", b"[" * 100_000, b'{"facts": {}}', b'{"facts": 1}', b"null"]
)
def test_garbage_in_place_of_a_hello_is_turned_away(words: bytes) -> None:
    with opened() as door:
        pipe = proven(door)
        pipe.send_bytes(words)
        with pytest.raises((EOFError, OSError)):
            pipe.recv_bytes()
        wait_until(lambda: door.turned_away == 1)
        pipe.close()
        close(come(door))


@pytest.mark.parametrize(("change", "word"), [({"code": "x"}, "code"), ({"python": "2.7"}, "2.7")])
def test_another_version_is_told_to_both(change: dict[str, str], word: str) -> None:
    with opened() as door:
        with pytest.raises(BenchError, match=word):
            come(door, facts=dataclasses.replace(OURS, **change))  # type: ignore[arg-type]
        assert word in (door.misfit or "")


def test_facts_of_another_version_are_told_too() -> None:
    told = json.loads(hello_text(Hello("orders", "a", OURS)))
    told["facts"] = {**told["facts"], "code": "x", "what_only_it_knows": 1}
    with pytest.raises(MisfitError):
        hello_of(json.dumps(told).encode(), OURS)


@given(
    st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_nothing_breaks_the_reading_of_a_hello(text: bytes) -> None:
    with pytest.raises((ValueError, MisfitError)):
        hello_of(text, OURS)


def test_more_foremen_than_wanted_are_let_go_with_a_word() -> None:
    with opened() as door:
        pipes = come(door)
        with pytest.raises(NotNeededError):
            come(door, "b")
        assert names(door.whole()) == ["a"]
        close(pipes)


def test_one_of_three_connections_is_no_machine() -> None:
    with opened() as door:
        pipe = proven(door)
        pipe.send_bytes(hello_text(Hello("orders", "half", OURS)))
        pipe.recv_bytes()
        assert door.whole() == []
        pipes = come(door)
        assert names(door.whole()) == ["a"]
        close(pipes)
        pipe.close()


def test_a_connection_twice_is_none() -> None:
    with opened() as door, proven(door) as pipe, proven(door) as again:
        pipe.send_bytes(hello_text(Hello("orders", "a", OURS)))
        pipe.recv_bytes()
        again.send_bytes(hello_text(Hello("orders", "a", OURS)))
        with pytest.raises((EOFError, OSError)):
            again.recv_bytes()


def test_one_that_has_gone_makes_room_for_another() -> None:
    with opened() as door:
        close(come(door))
        wait_until(lambda: not door.whole())
        pipes = come(door, "b")
        assert names(door.whole()) == ["b"]
        close(pipes)


def test_after_the_start_the_door_is_closed() -> None:
    with opened() as door:
        pipes = come(door)
        where = door.address
    with pytest.raises(BenchError):
        dial(where, KEY, lambda kind: Hello(kind, "b", OURS), 0.0, quiet)
    close(pipes)


@pytest.mark.parametrize("host", ["::1", "::1%1", "localhost", "127.0.0.1"])
def test_it_listens_at_any_kind_of_address(host: str) -> None:
    try:
        with opened(at=Address(host, 0)) as door:
            assert ("%" in door.address.host) == ("%" in host)
            close(come(door))
    except UsageError:
        if ":" not in host or socket.has_ipv6:
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
                sock.bind(("::1", 0))
                raise
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("at", [Address("192.0.2.7", 0), Address("no-such-host.invalid", 0)])
def test_where_nobody_can_listen_that_is_told(at: Address) -> None:
    with pytest.raises(UsageError, match=at.host), opened(at=at):
        pass


def test_a_taken_port_is_told() -> None:
    with (
        opened() as door,
        pytest.raises(UsageError, match=str(door.address.port)),
        opened(at=door.address),
    ):
        pass


def test_a_foreman_waits_for_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "AGAIN_S", 0.01)
    where = Address("127.0.0.1", free_port())
    waited = threading.Event()
    came: list[dict[Kind, Pipe]] = []

    def foreman() -> None:
        hello = Hello("orders", "a", OURS)
        make = lambda kind: dataclasses.replace(hello, kind=kind)  # noqa: E731
        came.append(dial(where, KEY, make, LIMIT_S, lambda _: waited.set()))

    thread = threading.Thread(target=foreman)
    thread.start()
    assert waited.wait(LIMIT_S)
    with opened(at=where) as door:
        wait_until(door.whole)
        thread.join()
    close(came[0])


def test_something_else_that_answers_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def play() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"\x00\x00\x00\x08HTTP/1.1")

        threading.Thread(target=play, daemon=True).start()
        where = Address("127.0.0.1", server.getsockname()[1])
        with pytest.raises(BenchError, match=str(where.port)) as told:
            dial(where, KEY, lambda kind: Hello(kind, "a", OURS), 0.0, quiet)
        assert "\n" not in str(told.value)


def test_strangers_do_not_fill_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "LOOK_S", 0.001)
    told: list[str] = []
    with opened() as door, contextlib.suppress(MachinesError):

        def say(line: str) -> None:
            told.append(line)
            door.turned_away += 1

        door.turned_away = 1
        asked._gathered(door, ByHand(1), 1, 0.2, say)
    assert len(told) == 1


def test_a_foreman_that_a_head_has_started_waits_for_no_other_head() -> None:
    where = Address("127.0.0.1", free_port())
    waited: list[str] = []
    with pytest.raises(BenchError, match=str(where.port)):
        dial(where, KEY, lambda kind: Hello(kind, "a", OURS, "0"), 1000.0, waited.append)
    assert waited == []
