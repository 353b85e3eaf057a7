"""The parent's side of a run: what a sending process leaves in its pipe when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
import time
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.crew import ending, runner, worker
from vllm_bench.crew.health import WorkerHealth
from vllm_bench.crew.inbox import Inbox
from vllm_bench.crew.judged import Elsewhere
from vllm_bench.crew.runner import _Run
from vllm_bench.crew.started import Processes
from vllm_bench.crew.worker import AwakeClock, Worker
from vllm_bench.live.counts import Counts
from vllm_bench.live.progress import Progress, time_left
from vllm_bench.plan.plan import Plan
from vllm_bench.records.run_info import ClockPair
from vllm_bench.send.outbox import Alive, Broke, Finished, Measured, Ready
from vllm_bench.send.tickets import Tickets
from vllm_bench.wire.clock import ClockFacts

from tests.machines.kept.made import made_judged
from tests.plan.test_classes import plans
from tests.support.made_plans import made_plan

WATCH: Any = SimpleNamespace(above=None)


class Crew:
    """A run with sending processes that are pipes: the test says what comes through them."""

    def __init__(self, size: int, plan: Plan) -> None:
        self.pipes = [multiprocessing.Pipe(duplex=False) for _ in range(size)]
        self.orders = [multiprocessing.Pipe(duplex=False) for _ in range(size)]
        self.tickets = Tickets(1)
        self.killed: list[int] = []
        self.workers = [self._worker(number) for number in range(size)]
        nobody: Any = SimpleNamespace(sessions=SimpleNamespace(not_sent=lambda part: 0))
        crew = Processes(plan, [self.tickets])
        crew.workers = self.workers
        self.run = _Run(plan, crew, Progress(planned=1, started_s=0.0), nobody, WATCH)

    def _worker(self, number: int) -> Worker:
        ours = self.pipes[number][0]
        health, orders = WorkerHealth(number, None, 1), self.orders[number][1]
        name, kill = f"sending process {number}", lambda: self.killed.append(number)
        return Worker(name, orders, ours, Inbox(ours), [health], kill)

    @property
    def lost(self) -> list[bool]:
        return [worker.senders[0].lost for worker in self.workers]

    def close(self) -> None:
        self.tickets.close()
        for one, other in (*self.pipes, *self.orders):
            one.close()
            other.close()


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.s = 100.0

    def monotonic(self) -> float:
        return self.s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.time, made.perf_counter_ns = time.time, time.perf_counter_ns  # type: ignore[attr-defined]
    monkeypatch.setattr(runner, "time", made)
    monkeypatch.setattr(ending, "time", made)
    monkeypatch.setattr(worker, "time", made)
    return made


@pytest.fixture
def crew(clock: Clock) -> Iterator[Crew]:
    made = Crew(2, made_plan(1))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("lost", "asked", "status"),
    [
        ((), 0, "complete"),
        ((1,), 0, "incomplete"),
        ((1,), 1, "interrupted"),
        ((0, 1), 0, "failed"),
    ],
    ids=str,
)
def test_a_run_that_lost_who_sent_is_not_complete(
    crew: Crew, lost: tuple[int, ...], asked: int, status: str
) -> None:
    course, workers = crew.run._course, crew.workers
    for number in lost:
        crew.run._lose(workers[number], "died")
    course.finished += [last(n) for n in range(2) if n not in lost]
    crew.run._ending.pass_on(asked)
    course.progress.ended = 1 - asked
    assert course.status() == status


def last(sender: int) -> Finished:
    return Finished(0, 0.0, 1, 1, 0.0, ClockFacts(None, "", 0), sender=sender)


def framed(whole: bytes) -> bytes:
    return struct.pack("!i", len(whole)) + whole


@pytest.mark.parametrize("torn", [0, 2, 4, 40])
def test_a_message_that_a_kill_tore_is_the_end_of_a_sending_process_and_not_of_the_run(
    crew: Crew, torn: int
) -> None:
    theirs = crew.pipes[0][1]
    os.write(theirs.fileno(), framed(pickle.dumps(b"x" * 100))[:torn])
    theirs.close()
    for _ in range(2):  # what is there, and the end
        if crew.workers[0].results in crew.run._working:
            crew.run._take_all(crew.workers[0])
    assert crew.lost == [True, False]
    assert list(crew.run._working.values()) == crew.workers[1:]


def test_half_a_message_is_never_waited_for(crew: Crew) -> None:
    whole = framed(pickle.dumps(Ready()))
    theirs = crew.pipes[0][1].fileno()
    for begin in range(0, len(whole), 7):
        assert crew.run._ready == 0
        os.write(theirs, whole[begin : begin + 7])
        crew.run._take_all(crew.workers[0])
    assert crew.run._ready == 1


def pass_time(crew: Crew, clock: Clock, seconds: float, step_s: float = 0.2) -> None:
    end_s = clock.s + seconds
    while clock.s < end_s:
        clock.s += step_s
        crew.run._awake.look()
        crew.run._kill_frozen()


def say_something(crew: Crew, *numbers: int) -> None:
    for number in numbers:
        crew.pipes[number][1].send(Alive())
        crew.run._take_all(crew.workers[number])


def test_a_sending_process_that_says_nothing_is_killed_by_name_and_the_others_go_on(
    crew: Crew, clock: Clock
) -> None:
    say_something(crew, 0, 1)
    for _ in range(11):  # one that stood still for 10 s, a second after its last word
        pass_time(crew, clock, 1.0)
        say_something(crew, 1)
    assert crew.killed == []
    pass_time(crew, clock, 1.0)
    assert crew.killed == [0]
    assert crew.lost == [True, False]
    assert list(crew.run._working.values()) == crew.workers[1:]
    (what,) = crew.run._course.lost
    assert what.startswith("sending process 0 said nothing for 10 s")


@pytest.mark.parametrize("count", [1, 2])
def test_how_workers_were_lost_is_said_once_of_each(crew: Crew, count: int) -> None:
    for number in range(count):
        crew.pipes[number][1].close()
        crew.run._take_all(crew.workers[number])
    assert len(crew.run._course.lost) == count
    assert crew.run._progress.lost == crew.run._course.lost  # told while the run goes on
    assert all(what.count("died") == 1 for what in crew.run._course.lost)
    (note,) = [note for note in notes_of(crew) if "sending process" in note]
    assert note.count("died") == count
    assert note.startswith(f"{count} of 2 ")


def notes_of(crew: Crew) -> tuple[str, ...]:
    nothing: Any = SimpleNamespace(unmeasured=SimpleNamespace(notes=()))
    crew.run._course.tally = nothing
    return crew.run._course.notes()


def test_a_run_that_failed_by_itself_says_nothing_of_ctrl_c(crew: Crew) -> None:
    crew.pipes[0][1].send(Broke("it couldn't"))
    crew.run._take_all(crew.workers[0])
    assert crew.run._progress.stopping
    assert "Ctrl-C" not in time_left(crew.run._progress)
    crew.run._ending.pass_on(2)  # yet it is heard
    assert crew.run._ending.cancelled


def test_a_parent_that_was_suspended_itself_blames_nobody(crew: Crew, clock: Clock) -> None:
    say_something(crew, 0, 1)
    pass_time(crew, clock, 3600.0, step_s=3600.0)
    assert crew.killed == []
    pass_time(crew, clock, 9.0)
    assert crew.killed == []
    pass_time(crew, clock, 3.0)
    assert crew.killed == [0, 1]


def test_after_everything_was_cut_off_nobody_waits_long_for_a_frozen_one(
    crew: Crew, clock: Clock
) -> None:
    say_something(crew, 0, 1)
    crew.run._ending.pass_on(2)
    pass_time(crew, clock, 2.0)
    assert crew.killed == []
    say_something(crew, 1)
    pass_time(crew, clock, 2.0)
    assert crew.killed == [0]


def test_one_that_hasnt_loaded_its_modules_yet_is_not_frozen(crew: Crew, clock: Clock) -> None:
    pass_time(crew, clock, 30.0)
    assert crew.killed == []


def tell(crew: Crew, number: int, message: object) -> None:
    crew.pipes[number][1].send(message)
    crew.run._take_all(crew.workers[number])


def test_workers_whose_rows_stay_are_counted_once_however_often_they_tell(crew: Crew) -> None:
    for ended in (1, 3, 3):
        tell(crew, 0, Elsewhere(Counts(ended=ended, good_tokens=20 * ended), away=False))
        tell(crew, 1, Elsewhere(Counts(ended=2 * ended), away=None))
    assert crew.run._progress.ended == 9
    assert crew.run._progress.good_tokens == 60


def test_an_open_loop_ends_when_all_whose_rows_stay_have_measured_theirs(clock: Clock) -> None:
    plan = made_plan(9, times_s=array("d", range(9)), request_rates=[1.0], concurrencies=[])
    crew = Crew(2, plan)
    try:
        crew.run.begin(ClockPair(wall_s=0.0, monotonic_ns=0), {})
        tell(crew, 0, Elsewhere(Counts(ended=3), away=False))
        tell(crew, 1, Elsewhere(Counts(ended=4), away=False))
        tell(crew, 1, Measured())
        assert not crew.orders[0][0].poll(0)
        tell(crew, 0, Measured())
        assert [orders[0].recv() for orders in crew.orders] == ["drain", "drain"]
    finally:
        crew.close()


def test_a_server_that_is_away_is_told_by_counts_too(crew: Crew, clock: Clock) -> None:
    ending = crew.run._ending
    ending.begin()
    tell(crew, 0, Elsewhere(Counts(ended=1), away=True))
    clock.s += 30
    tell(crew, 0, Elsewhere(Counts(ended=1), away=None))
    ending.if_gone(20.0, "refused")
    assert ending.why is not None


def test_a_server_that_answered_in_between_isnt_away(crew: Crew, clock: Clock) -> None:
    ending = crew.run._ending
    ending.begin()
    for away in (True, False, True):
        clock.s += 15
        tell(crew, 0, Elsewhere(Counts(), away=away))
    clock.s += 15
    ending.if_gone(20.0, "refused")
    assert ending.why is None


def test_the_clock_counts_what_it_sees(clock: Clock) -> None:
    awake = AwakeClock()
    for step_s in (0.2, 0.7, 500.0):
        clock.s += step_s
        awake.look()
    assert awake.s == pytest.approx(1.9)


MESSAGES = st.lists(st.one_of(st.binary(max_size=40_000), st.text(), st.integers()), max_size=6)


@given(MESSAGES, st.integers(1, 60_000))
def test_messages_come_out_as_they_went_in_however_they_were_cut(
    messages: list[object], step: int
) -> None:
    """The bytes are those of multiprocessing's own `send`."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    raw, found = bytearray(), []
    for message in messages:
        theirs.send(message)
        raw += os.read(ours.fileno(), 1 << 20)
    inbox = Inbox(ours)
    for begin in range(0, len(raw), max(step, len(raw) // 50)):
        os.write(theirs.fileno(), raw[begin : begin + max(step, len(raw) // 50)])
        found += inbox.take() or ()
    theirs.close()
    assert inbox.take() is None
    assert found == messages
    ours.close()


def test_a_message_of_gigabytes_is_told_by_its_longer_head(crew: Crew) -> None:
    whole = pickle.dumps(Ready())
    os.write(crew.pipes[0][1].fileno(), struct.pack("!iQ", -1, len(whole)) + whole)
    crew.run._take_all(crew.workers[0])
    assert crew.run._ready == 1


def test_what_came_before_a_message_that_cannot_be_read_is_not_lost(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = pickle.loads

    def without_files(data: bytes) -> object:
        found = loads(data)
        if isinstance(found, Ready):
            raise OSError(24, "Too many open files")
        return found

    for message in (Alive(), Alive(), Ready()):
        crew.pipes[0][1].send(message)
    monkeypatch.setattr(pickle, "loads", without_files)
    inbox = crew.workers[0].inbox
    assert inbox.take() == [Alive(), Alive()]
    with pytest.raises(OSError, match="files"):
        inbox.take()


def asking(crew: Crew, answers: list[str | None]) -> list[float]:
    """Let the run ask whether it has shown enough, and return when it asked."""
    asked: list[float] = []

    def enough(_rows: object, now_s: float) -> str | None:
        asked.append(now_s)
        return answers.pop(0)

    for _ in list(answers):
        crew.run._ending.if_enough(enough, [])
    return asked


def test_a_run_that_has_shown_enough_is_ended_once_and_isnt_interrupted(crew: Crew) -> None:
    crew.run._ending.begin()
    assert len(asking(crew, [None, "enough of it", "again"])) == 2
    for one in crew.workers:
        one.tell_rest()
    assert [pipe[0].recv() for pipe in crew.orders] == ["stop", "stop"]
    last: Any = None  # how it ended is told by what it left undone
    crew.run._course.finished.append(last)
    assert crew.run._course.status() == "stopped"
    assert crew.run._progress.stopping


def test_before_the_start_nothing_is_asked(crew: Crew) -> None:
    assert asking(crew, ["enough"]) == []


CLASSES = {"chat": {"share": 1.0}, "agents": {"streams": 1}}


@pytest.mark.parametrize(
    ("classes", "cut_off"), [(None, True), (CLASSES, False)], ids=["one", "two"]
)
def test_an_open_loops_tail_is_cut_off_and_nothing_that_streams_measure_beside_it(
    clock: Clock, classes: dict[str, Any] | None, cut_off: bool
) -> None:
    settings = {"concurrencies": [], "request_rates": [4.0], "num_requests": 3, "classes": classes}
    (plan,) = plans(**settings)
    found = Crew(2, plan)
    found.run.begin(ClockPair(wall_s=0.0, monotonic_ns=0), {})
    part = plan.parts[0]
    for index in range(3):
        one = made_judged(part.of * index + part.place)
        found.run._ended(found.workers[index % 2], one)
    assert found.run._ending._draining
    assert (found.run._ending._cancel_at_s < float("inf")) == cut_off
    found.close()
