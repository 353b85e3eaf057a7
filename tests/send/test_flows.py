"""A sending process with several parts of a plan: one epoll set, one start, one end."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vllm_bench.plan.plan import Plan
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.send import loop_health
from vllm_bench.send.outbox import Alive, Broke, Connected, Drop, Finished, Go, Ready
from vllm_bench.send.tickets import Tickets
from vllm_bench.send.worker import _run

from tests.plan.test_classes import HYBRID, OPEN, OWN, STREAMS, plans
from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import HANG, TinyVllm

GOES_AFTER_S = 0.05


class Process:
    """The work of one sending process, in a thread: the test is its parent."""

    def __init__(self, plan: Plan, number: int = 0, workers: int = 1) -> None:
        self.plan = plan
        self.tickets = [Tickets(0 if p.open_loop else p.most_measured) for p in plan.parts]
        self._orders, self.orders = multiprocessing.Pipe(duplex=False)
        self.results, self._results = multiprocessing.Pipe(duplex=False)
        self.shares = plan.shares(number, workers)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()
        self.ended: list[Exchange] = []
        self.messages: list[object] = []

    def _work(self) -> None:
        asyncio.run(_run(self.shares, self.tickets, self._orders, self._results))

    def until(self, enough: Callable[[], bool]) -> None:
        """Take messages until there are enough."""
        give_up_s = time.monotonic() + LIMIT_S
        while not enough():
            assert time.monotonic() < give_up_s, self.messages
            if self.results.poll(0.05):
                self._take(self.results.recv())

    def _take(self, message: object) -> None:
        assert not isinstance(message, Broke), message
        self.messages.append(message)
        if isinstance(message, tuple):
            self.ended.append(message[1])

    def heard(self, kind: type[Any]) -> bool:
        return any(isinstance(message, kind) for message in self.messages)

    def go(self) -> int:
        """Start once it is ready; return the start (ns)."""
        self.until(lambda: self.heard(Ready))
        start_ns = time.perf_counter_ns() + int(GOES_AFTER_S * 1e9)
        self.orders.send(Go(start_ns))
        return start_ns

    def finish(self) -> None:
        self.until(lambda: self.heard(Finished))
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()

    def measured(self, name: str) -> list[Exchange]:
        """The ended exchanges of a class, without its warm-up."""
        return [
            e
            for e in self.ended
            if self.plan.part(e.request_index).name == name
            and self.plan.role(e.request_index) != "warm-up"
        ]

    def close(self) -> None:
        for end in (self.orders, self._orders, self.results, self._results):
            end.close()
        for tickets in self.tickets:
            tickets.close()


@pytest.fixture(autouse=True)
def _garbage() -> Iterator[None]:
    """A sending process collects no garbage; this one goes on to."""
    yield
    gc.unfreeze()
    gc.enable()


def plan_of(server: TinyVllm, **changes: Any) -> Plan:
    usual = {"base_url": server.base_url, "max_new_tokens": 4, "warmup_requests": 2}
    (plan,) = plans(**{**usual, **changes})
    return plan


def run(plan: Plan, **which: int) -> Process:
    process = Process(plan, **which)
    process.go()
    process.finish()
    process.close()
    return process


SHORT = {**OPEN, "request_rates": [60.0], "num_requests": 30}


def test_arrivals_and_streams_go_side_by_side_each_with_its_own_numbers(
    tiny_vllm: TinyVllm,
) -> None:
    tiny_vllm.token_gap_s = 0.01
    plan = plan_of(tiny_vllm, **{**SHORT, "num_requests": 30}, classes=HYBRID)
    process = Process(plan)
    start_ns = process.go()
    process.until(lambda: len(process.measured("chat")) >= 30)
    process.orders.send("stop")  # as the parent does once the measured ones have ended
    process.finish()
    chat, agents = (process.measured(name) for name in ("chat", "agents"))
    assert [plan.role(e.request_index) for e in chat[:30]] == ["measured"] * 30
    assert len({e.request_index for e in process.ended}) == len(process.ended)
    assert process.tickets[1].taken() == len(agents) > 3
    for part, ended in zip(plan.parts, (chat, agents), strict=True):
        assert {e.stream_index % part.of for e in ended} == {part.place}
        assert all(e.failure is None and e.http_status == 200 for e in ended)
    assert len({e.stream_index for e in agents}) == 3
    # No stream begins anything once the last measured arrival was due.
    last_ns = start_ns + int(plan.measured_s[-1] * 1e9)
    assert all(e.t_scheduled_ns <= last_ns + 50_000_000 for e in agents)
    warm = Counter(plan.part(e.request_index).name for e in process.ended) - Counter(
        plan.part(e.request_index).name for e in (*chat, *agents)
    )
    assert warm == {"chat": 2, "agents": 2}
    process.close()


def test_each_class_asks_for_what_is_its_own(tiny_vllm: TinyVllm) -> None:
    classes = {
        "chat": {"share": 0.5, "priority": 0},
        "legal": {"share": 0.5, "priority": 10, "headers": {"X-Team": "legal"}},
    }
    plan = plan_of(tiny_vllm, **SHORT, classes=classes)
    process = Process(plan)
    process.go()
    process.until(lambda: len(process.ended) >= 20)
    process.orders.send("cancel")
    process.finish()
    process.close()
    teams = {
        (request.json["priority"], request.headers.get("x-team")) for request in tiny_vllm.requests
    }
    assert teams == {(0, None), (10, "legal")}


def test_a_process_without_a_stream_of_a_class_sends_the_others(tiny_vllm: TinyVllm) -> None:
    classes = {"few": {"streams": 1}, "many": {"streams": 4}}
    plan = plan_of(tiny_vllm, **{**OWN, "duration_s": 0.3}, classes=classes)
    process = run(plan, number=1, workers=4)
    assert [share.lanes for share in process.shares] == [0, 1]
    assert process.measured("few") == []
    assert process.measured("many")


def test_a_class_whose_arrivals_are_all_another_processs_is_no_hindrance(
    tiny_vllm: TinyVllm,
) -> None:
    classes = {"rare": {"share": 0.02}, "many": {"share": 0.98}}
    given = {**SHORT, "num_requests": 200, "warmup_requests": 0}
    plan = plan_of(tiny_vllm, **given, classes=classes)
    number = len(plan.parts[0].times_s)
    assert 0 < number < 200
    process = Process(plan, number=number, workers=number + 1)
    assert len(process.shares[0].requests) == 0
    process.go()
    process.until(lambda: bool(process.measured("many")))
    process.orders.send("stop")
    process.finish()
    process.close()
    assert process.measured("rare") == []


@pytest.mark.parametrize("mix", [{**SHORT, "classes": HYBRID}, {**OWN, "classes": STREAMS}])
def test_stop_ends_all_parts_and_lets_what_is_under_way_end(
    tiny_vllm: TinyVllm, mix: dict[str, Any]
) -> None:
    tiny_vllm.token_gap_s = 0.02
    plan = plan_of(tiny_vllm, **{**mix, "num_requests": mix.get("num_requests") and 600})
    process = Process(plan)
    process.go()
    process.until(lambda: all(process.measured(str(part.name)) for part in plan.parts))
    process.orders.send("stop")
    process.finish()
    process.close()
    assert all(e.failure is None for e in process.ended)
    sent = sum(r.path.endswith("/completions") for r in tiny_vllm.requests)
    assert sent == len(process.ended)  # nothing is lost, and nothing more was sent
    assert len(process.ended) < 600


def test_cancel_cuts_off_what_is_under_way_in_every_part(tiny_vllm: TinyVllm) -> None:
    tiny_vllm.misbehave = lambda number: [HANG] if number > 4 else None  # the warm-up is well
    plan = plan_of(tiny_vllm, **{**OWN, "duration_s": 60.0}, classes=STREAMS)
    process = Process(plan)
    process.go()
    process.until(lambda: len(tiny_vllm.requests) >= 4 + 8)
    process.orders.send("cancel")
    process.finish()
    process.close()
    for name, streams in (("chat", 5), ("agents", 3)):
        kinds = [e.failure.kind for e in process.measured(name) if e.failure]
        assert kinds == ["cancelled"] * streams


def test_a_parent_that_is_gone_ends_every_part(tiny_vllm: TinyVllm) -> None:
    tiny_vllm.misbehave = lambda number: [HANG] if number > 4 else None
    plan = plan_of(tiny_vllm, **{**OWN, "duration_s": 60.0}, classes=STREAMS)
    process = Process(plan)
    process.go()
    process.until(lambda: len(tiny_vllm.requests) >= 4 + 8)
    process.orders.close()
    process.finish()
    assert {e.failure.kind for e in process.ended if e.failure} == {"cancelled"}


def test_a_parent_that_says_no_more_that_it_lives_ends_every_part(
    tiny_vllm: TinyVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_health, "MOST_SILENT_S", 1)
    tiny_vllm.misbehave = lambda number: [HANG] if number > 4 else None
    plan = plan_of(tiny_vllm, **{**OWN, "duration_s": 60.0}, classes=STREAMS)
    process = Process(plan)
    process.go()
    process.until(lambda: len(tiny_vllm.requests) >= 4 + 8)
    time.sleep(1.2)  # one that never said so may say nothing
    assert not process.heard(Finished)
    process.orders.send(Alive())
    process.finish()
    process.close()
    assert {e.failure.kind for e in process.ended if e.failure} == {"cancelled"}


def test_drop_ends_one_exchange_of_one_part_and_no_other(tiny_vllm: TinyVllm) -> None:
    def hang_for_agents(_number: int) -> list[Any] | None:
        body = tiny_vllm.requests[-1].json
        return [HANG] if body["max_tokens"] == 99 else None

    classes = {"chat": {"streams": 1}, "agents": {"streams": 1, "max_new_tokens": 99}}
    given = {**OWN, "duration_s": 0.6, "warmup_requests": 0}
    plan = plan_of(tiny_vllm, **given, classes=classes)
    tiny_vllm.misbehave = hang_for_agents
    process = Process(plan)
    process.go()
    process.until(lambda: len(process.measured("chat")) >= 3)
    first = plan.parts[1].requests[0].index
    process.orders.send(Drop(first, Failure("overlong", "too much")))
    process.until(lambda: any(e.request_index == first for e in process.ended))
    process.until(lambda: len(process.measured("chat")) >= 6)  # the others go on
    process.orders.send("cancel")
    process.finish()
    process.close()
    failed = {e.request_index: e.failure.kind for e in process.measured("agents") if e.failure}
    assert failed.pop(first) == "overlong"
    assert {*failed.values()} <= {"cancelled"}
    assert all(e.failure is None or e.failure.kind == "cancelled" for e in process.measured("chat"))


def test_a_class_of_conversations_beside_arrivals(tiny_vllm: TinyVllm) -> None:
    classes = {"chat": {"share": 1}, "agents": {"streams": 2, "conversations": {"turns": 3}}}
    plan = plan_of(tiny_vllm, **SHORT, classes=classes)
    process = Process(plan)
    process.go()
    process.until(lambda: len(process.measured("chat")) >= 30)
    process.orders.send("stop")
    process.finish()
    process.close()
    agents = [e.request_index // plan.parts[1].of for e in process.measured("agents")]
    turns = Counter(number % 3 for number in agents)
    assert turns[0] >= turns[1] >= turns[2] > 0
    connected = next(m for m in process.messages if isinstance(m, Connected))
    assert connected.connected == sum(share.lanes for share in process.shares)
