"""A machine's portion that ends before its time: the head must not take it for a whole one."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from vllm_bench.live.progress import Progress
from vllm_bench.machines.foreman import serve
from vllm_bench.machines.foreman.serve import serve_run
from vllm_bench.machines.kept.keeper import Keeper
from vllm_bench.machines.meeting.hello import KINDS
from vllm_bench.machines.messages import Idle, Leaving, LetGo, Serve, Told
from vllm_bench.send.outbox import Finished

from tests.support.beside.waiting import LIMIT_S
from tests.support.made_plans import made_plan

PLAN = made_plan(4)


def told_of(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Any, Any], None]) -> list[Any]:
    """Return what a foreman tells of a portion while `meanwhile` happens to it and its orders."""
    orders, ours = multiprocessing.Pipe()
    told: list[Any] = []

    def run_plan(_plan: Any, _sink: Any, _crew: Any, watch: Any) -> None:
        portion = watch.above
        portion.manned(SimpleNamespace(workers=[], begun=lambda: 4, due=lambda part: 4))
        meanwhile(watch.interrupts, ours)
        watch.interrupts()
        last: Any = Finished(1, 1.0, 0, 1, 0.1, clock=None)  # type: ignore[arg-type]
        portion.hear(0, last)
        portion.over(Progress(planned=4, started_s=0.0))

    monkeypatch.setattr(serve, "run_plan", run_plan)
    with orders:
        outbox: Any = SimpleNamespace(put=told.append)
        serve_run(Serve(PLAN, 1), orders, outbox, Keeper(None))
    ours.close()
    return told


def hear_signal(interrupts: Any, _orders: Any) -> None:
    interrupts.asked = 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        hear_signal,
        lambda _, orders: orders.close(),
        lambda _, orders: orders.send(LetGo()),
    ],
    ids=["a signal", "the way to the head", "the session's end"],
)
def test_who_was_interrupted_or_cut_off_gives_no_last_word(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Any, Any], None]
) -> None:
    told = told_of(monkeypatch, meanwhile)
    assert isinstance(told[-1], Leaving)
    assert not any(isinstance(one, Finished | Idle) for one in told)


@pytest.mark.parametrize(("parent", "word"), [(77, "interrupted"), (1, "which died")])
def test_a_signal_is_told_apart_from_the_death_of_who_started_it(
    monkeypatch: pytest.MonkeyPatch, parent: int, word: str
) -> None:
    parents = iter([77])
    monkeypatch.setattr(os, "getppid", lambda: next(parents, parent))
    (leaving,) = (m for m in told_of(monkeypatch, hear_signal) if isinstance(m, Leaving))
    assert word in leaving.why


@pytest.mark.parametrize("order", ["drain", "stop", "cancel"])
def test_who_was_asked_to_end_by_the_head_ends_its_portion(
    monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    told = told_of(monkeypatch, lambda _, orders: orders.send(Told(PLAN.run_id, order)))
    assert [type(one) for one in told[-2:]] == [Finished, Idle]


def test_that_it_is_let_go_may_come_behind_the_end_of_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network keeps no order between connections: it waits a moment, here for this test."""
    saw_the_end, go_on = threading.Event(), threading.Event()

    def moment(_: float) -> None:
        saw_the_end.set()
        go_on.wait(LIMIT_S)

    virtual = SimpleNamespace(perf_counter_ns=time.perf_counter_ns, sleep=moment)
    monkeypatch.setattr(serve, "time", virtual)
    pairs: dict[Any, Any] = {kind: multiprocessing.Pipe() for kind in KINDS}
    pipes = {kind: theirs for kind, (_, theirs) in pairs.items()}
    with ThreadPoolExecutor() as beside:
        ended = beside.submit(serve.serve, pipes, Keeper(None))
        clock, _ = pairs["clock"]
        clock.send(1)
        assert clock.recv()[0] == 1
        clock.close()
        assert saw_the_end.wait(LIMIT_S)
        pairs["orders"][0].send(LetGo())
        ended.result(LIMIT_S)  # it raises nothing
        go_on.set()
    for ours, theirs in pairs.values():
        ours.close()
        theirs.close()
