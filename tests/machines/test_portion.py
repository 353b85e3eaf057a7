"""A machine's portion that ends before its time: the head must not take it for a whole one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from vllm_bench.live.progress import Progress
from vllm_bench.machines.foreman import serve
from vllm_bench.machines.foreman.serve import serve_run
from vllm_bench.machines.kept.keeper import Keeper
from vllm_bench.machines.messages import Idle, Leaving, LetGo, Serve, Told
from vllm_bench.send.outbox import Finished

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
