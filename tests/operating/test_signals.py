"""Ctrl-C, SIGTERM and SIGHUP at chosen moments of bench.py's life: each is obeyed, no row is lost.

A moment is told by what has happened: a line, a file, a process, a request that has come. At most
of them the server then says nothing more for minutes, so that only the signal can be the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from vllm_bench.records.run_info import read_run_info

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import HANG, SSE_HEAD, Request, TinyVllm, chunk, delta
from tests.support.frames import read_frame
from tests.support.running import ROOT, command, environment, write_scenario
from tools.hostile.processes import of_session, senders_of

pytestmark = pytest.mark.process

SLOW_S = 0.4  # between two tokens, for a blow to fall while a run goes on
Numbers = tuple[signal.Signals, ...]
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Hanging(TinyVllm):
    """Answers a control page so many times, and then never again."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, int] = {}

    def came(self, path: str) -> int:
        return sum(r.path == path for r in self.requests)

    async def answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if self.came(request.path) > self.times.get(request.path, 1 << 30):
            return await self.play([HANG], reader, writer)
        return await super().answer(request, reader, writer)


@dataclass
class Bench:
    """bench.py while it runs, in a session of its own."""

    folder: Path
    server: Hanging
    process: subprocess.Popen[bytes]
    answered: int = 0  # rows that have to be there

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")

    @property
    def completions(self) -> int:
        return self.server.came("/v1/chat/completions")

    def files(self, pattern: str) -> list[Path]:
        return [p for p in (self.folder / "results").glob(pattern) if p.stat().st_size]

    def rows(self) -> int:
        return sum(len(read_frame(path)) for path in self.files("*.csv"))

    def left(self) -> list[int]:
        """The processes of its session that still run."""
        return of_session(self.process.pid)


@dataclass(frozen=True)
class Moment:
    """When the signal comes, and what the server is like then."""

    name: str
    is_now: Callable[[Bench], bool]
    hang: dict[str, int] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    streams_hang: bool = False  # after their first token
    slow_after: int | None = None  # so many requests
    ready: bool = True
    statuses: tuple[str, ...] = ("interrupted",)
    measured: bool = False  # whether there is a run's JSON
    then: signal.Signals | None = None  # a second one, once the first was answered


def came(path: str, times: int = 1) -> Callable[[Bench], bool]:
    return lambda bench: bench.server.came(path) >= times


def told(words: str) -> Callable[[Bench], bool]:
    return lambda bench: words in bench.said


MANY = {"num_requests": 5000}
MOMENTS = [
    Moment("waiting for a server", told("waiting for"), ready=False),
    Moment("its health is asked", came("/health"), {"/health": 0}),
    Moment("its models are asked", came("/v1/models"), {"/v1/models": 0}),
    Moment(
        "prompts are counted",
        came("/tokenize", 3),
        {"/tokenize": 2},
    ),
    Moment("its counters are read", came("/metrics"), {"/metrics": 0}),
    Moment("its version is asked", came("/version"), {"/version": 0}),
    Moment(
        "a sampler starts",
        told("[1/1]"),
        words=("--telemetry-command", "sleep 1000"),
        settings={"telemetry": True},
        statuses=(),  # not even after the sampler was given up
    ),
    Moment("the plan is there", lambda b: bool(b.files("plans/*.csv")), settings=MANY),
    Moment("the JSON is there", lambda b: bool(b.files("*.json")), settings=MANY),
    Moment(
        "processes start",
        lambda b: bool(senders_of(b.process.pid)),
        settings={**MANY, "concurrencies": [8]},
        words=("--workers", "8"),
    ),
    Moment(
        "warm-up",
        lambda b: b.completions >= 3,
        settings={"warmup_requests": 3},
        streams_hang=True,  # whether the parent knows yet that all are connected is chance
    ),
    Moment("the run goes on", lambda b: b.rows() > 5, settings=MANY, measured=True),
    Moment(
        "replies are awaited",
        lambda b: b.completions >= 3,
        settings=MANY,
        streams_hang=True,
        measured=True,
        then=signal.SIGINT,
    ),
    Moment(
        "counters settle",
        lambda b: b.rows() == 12 and b.server.came("/metrics") > 2,
        {"/metrics": 2},
        words=("--no-server-metrics",),
        statuses=("complete",),
        measured=True,
    ),
    Moment(
        "between runs",
        lambda b: " INVALID (" in b.said or " SUSPECT (" in b.said or " VALID" in b.said,
        settings={"concurrencies": [3, 4]},
        slow_after=12,
        statuses=("complete", "interrupted"),
        measured=True,
    ),
]


@pytest.fixture
def server() -> Iterator[Hanging]:
    with Hanging() as made:
        made.token_gap_s = 0.02
        yield made


def start(folder: Path, server: Hanging, moment: Moment) -> Bench:
    server.times, server.ready = moment.hang, moment.ready
    if moment.streams_hang:
        server.misbehave = lambda _: [SSE_HEAD, chunk(delta("a")), HANG]
    elif moment.slow_after is not None:
        server.misbehave = partial(slow_down, server, moment.slow_after)
    settings = {
        "base_url": server.base_url,
        "model": "tiny",
        "max_new_tokens": 4,
        "concurrencies": [3],
        "num_requests": 12,
        **moment.settings,
    }
    scenarios = write_scenario(folder, **settings)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command(folder, scenarios, *moment.words),
            stdout=said,
            stderr=said,
            env=environment(folder),
            start_new_session=True,
        )
    return Bench(folder, server, process)


def slow_down(server: Hanging, after: int, number: int) -> None:
    if number > after:
        server.token_gap_s = SLOW_S


@pytest.mark.parametrize(
    ("moment", "number"),
    [(moment, KINDS[i % len(KINDS)]) for i, moment in enumerate(MOMENTS)],
    ids=[moment.name for moment in MOMENTS],
)
def test_a_signal_is_obeyed_at_any_moment(
    tmp_path: Path, server: Hanging, moment: Moment, number: signal.Signals
) -> None:
    """It goes to the whole process group, as a terminal and a batch system send it."""
    bench = start(tmp_path, server, moment)
    try:
        wait_until(lambda: moment.is_now(bench) or bench.process.poll() is not None)
        assert bench.process.poll() is None, bench.said
        before = bench.rows()
        os.killpg(bench.process.pid, number)
        if moment.then is not None:
            wait_until(told_to_stop(bench))
            bench.process.send_signal(moment.then)
        assert bench.process.wait(LIMIT_S) == 130, bench.said
    finally:
        bench.process.kill()
        bench.process.wait()
    assert "Traceback" not in bench.said
    wait_until(lambda: not bench.left())
    infos = [read_run_info(path) for path in bench.files("*.json")]
    assert {info.status for info in infos} <= set(moment.statuses)
    assert bool(infos) >= moment.measured
    assert len(infos) == len(list((tmp_path / "results").glob("*.csv")))
    assert bench.rows() >= before
    if moment.measured and not moment.streams_hang:
        assert bench.rows() == bench.completions
    elif not infos:
        assert not (tmp_path / "results").exists()


# A thread that locks a mutex twice waits for ever, in C, where Python runs no handler.
DEAF = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from vllm_bench.script import run
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
def main():
    library.pthread_mutex_lock(mutex)
    print("now", flush=True)
    return library.pthread_mutex_lock(mutex)
sys.exit(run(main))
"""


@pytest.mark.parametrize("number", KINDS)
def test_a_script_that_is_deaf_in_a_librarys_call_is_ended_too(number: signal.Signals) -> None:
    words = [sys.executable, "-c", DEAF, str(ROOT / "bench")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 130


def told_to_stop(bench: Bench) -> Callable[[], bool]:
    return lambda: "stopping: " in bench.said


def test_a_hangup_that_nohup_ignores_is_ignored(tmp_path: Path, server: Hanging) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it
    try:
        bench = start(tmp_path, server, Moment("nohup", lambda _: True))
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: bench.rows() > 2)
    os.killpg(bench.process.pid, signal.SIGHUP)
    bench.process.wait(LIMIT_S)
    assert bench.rows() == 12
    assert "interrupted" not in [read_run_info(path).status for path in bench.files("*.json")]


def test_a_sending_process_that_is_stopped_is_killed_and_the_others_go_on(
    tmp_path: Path, server: Hanging
) -> None:
    server.token_gap_s = SLOW_S  # until it has been stopped
    settings: dict[str, object] = {"num_requests": 100, "concurrencies": [8]}
    moment = Moment("", lambda _: True, settings=settings, words=("--workers", "2"))
    bench = start(tmp_path, server, moment)
    wait_until(lambda: bench.rows() > 5)
    os.kill(senders_of(bench.process.pid)[0], signal.SIGSTOP)
    server.token_gap_s = 0.0
    assert bench.process.wait(LIMIT_S) == 4
    wait_until(lambda: not bench.left())
    (info,) = [read_run_info(path) for path in bench.files("*.json")]
    assert info.status == "incomplete"
    assert sum(worker["lost"] for worker in info.client_health["workers"]) == 1
    assert 100 - 8 <= bench.rows() < 100
    assert any("said nothing" in note for note in info.notes)
