"""The machines in one run: what runs a plan has them for workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from ...crew.judged import Judged
from ...crew.worker import RunError, Worker
from ...plan.part import Part
from ...plan.plan import Plan
from ...reply.read_times import ReadTimes
from ...send.outbox import Connected
from ..clocks.pings import Pings
from ..deal import as_told
from ..kept.fetching import kept_by
from ..messages import (
    AllFetched,
    Fetch,
    Idle,
    Leaving,
    Manned,
    NotKept,
    SenderLost,
    Serve,
    Standing,
)
from .machine import Machine
from .post import Post, post_of

HEAD_START_S = 0.5  # from the order to start to the start: the order crosses a network
POLL_S = 0.2
PINGS_LIMIT_S = 5.0  # for fifty pings of each after a run


class MachineCrew:
    """The machines in one run: a crew."""

    what = "machines"
    head_start_s = HEAD_START_S

    def __init__(
        self,
        run_id: str,
        machines: Sequence[Machine],
        plans: Sequence[Plan],
        pings: Pings,
        *,
        rows_stay: bool,
    ) -> None:
        self._run_id, self._pings = run_id, pings
        self._notes: list[str] = []
        self._posts = [
            post_of(machine, plan, run_id) for machine, plan in zip(machines, plans, strict=True)
        ]
        for post in self._posts:
            post.stays = rows_stay
            post.due = {part.place: part.due(0) for part in post.plan.drawn}

    @property
    def workers(self) -> Sequence[Worker]:
        """Return one for each machine."""
        return [post.worker for post in self._posts]

    def begun(self) -> int:
        """Return how many requests of closed loops have begun, as far as they have told."""
        return sum(post.begun_by_now() for post in self._posts)

    def due(self, part: Part) -> int:
        """Return how many requests of a part should have a row, by those that have begun."""
        place = part.place  # a machine that was lost may have told more rows since its last word
        return sum(max(post.due[place], post.worker.rows[place]) for post in self._posts)

    def to_measure(self) -> list[int]:
        """Return, of each machine, how many requests by the clock it is to measure."""
        return [
            sum(part.own.below(part.measured) for part in post.plan.drawn if part.has_tail)
            for post in self._posts
        ]

    def alone(self, worker: Worker) -> int:
        """Return how many requests of its portion are known to be measured."""
        return sum(part.own_among(part.measured) for part in self._post(worker).plan.drawn)

    def hand_over(self, worker: Worker, workers: int | None) -> None:
        """Give a machine its portion.

        Raises RunError: it doesn't take it; OSError: a file that travels with it can't be read.
        """
        post = self._post(worker)
        order = Serve(as_told(post.plan), workers, post.stays)
        try:
            worker.orders.send(order)
            post.over = False
        except OSError as e:
            how = self.lose(worker, "didn't take its portion of the load")
            raise RunError(f"{worker.name} {how} ({e.strerror or e})") from e
        except BaseException:  # half an order can't be followed by another
            post.machine.lose("was interrupted while it got its portion")
            raise

    def reached(self, told: Sequence[tuple[Worker, Connected]]) -> str | None:
        """Return what kept machines from connecting to the server; None: nothing did."""
        problems = [f"{worker.name}: {c.problem}" for worker, c in told if c.problem]
        if not problems:
            return None
        reach = sum(not c.problem or c.connected > 0 for _, c in told)
        return f"{reach} of {len(told)} machines reach the server; {'; '.join(problems[:3])}"

    def notes(self) -> Sequence[str]:
        """Return what machines have said that people should know."""
        left = ", ".join(sorted(self.unfetched()))
        stay = f"{left} may keep rows of this run: --resume with the same machines fetches them"
        return (*self._notes, *((stay,) if left else ()))

    def lose(self, worker: Worker, how: str) -> str:
        """Give a machine up; return how it was lost, as far as it could say."""
        machine = self._post(worker).machine
        machine.missed = True
        return machine.lose(how)

    def _post(self, worker: Worker) -> Post:
        return next(post for post in self._posts if post.worker is worker)

    def take(self, worker: Worker, message: object) -> None:
        """Take what a foreman says of its machine."""
        post = self._post(worker)
        if isinstance(message, Manned):
            worker.senders, post.server_is_here = message.senders, message.server_is_here
            for sender in worker.senders:
                sender.machine = post.machine.name
        elif isinstance(message, Standing):
            post.begun, post.rows_then = message.begun, worker.rows.total()
            post.due = dict(message.due)
            if correction := post.timeline.correction():
                worker.tell(correction)
        elif isinstance(message, SenderLost):
            worker.senders[message.sender].lost = True
            self._notes.append(f"{worker.name}: {message.text}")
        elif isinstance(message, ReadTimes):
            post.lates = message
        elif isinstance(message, Leaving):
            post.machine.leaving = message.why
        elif isinstance(message, Idle):
            post.over = True
            for sender in worker.senders:  # of a portion that broke, and had no last word
                sender.lost = sender.lost or not sender.ended
        elif isinstance(message, NotKept):
            self._notes.append(f"{worker.name} keeps no more rows: {message.text}")

    def rest(self, is_broken_off: Callable[[], bool]) -> Iterator[tuple[Worker, Sequence[Judged]]]:
        """Yield the rows that stayed on the machines, one machine after the other."""
        for post in self._posts:
            if not post.stays or post.machine.lost:
                continue
            others, name = partial(self.take, post.worker), post.machine.name
            order = Fetch(self._run_id, post.plan.session, name)
            try:
                for told in kept_by(post.machine, order, is_broken_off, others):
                    if isinstance(told, AllFetched):
                        self._notes += [f"{name}: {problem}" for problem in told.problems]
                        post.stays = bool(told.problems)
                        continue
                    post.fetched += sum(one.role == "measured" for one in told.ended)
                    yield post.worker, post.worker.ours(told.ended)
            except RunError as e:
                self._notes.append(f"{name} {self.lose(post.worker, str(e))}")
                post.worker.lose()

    def unfetched(self) -> set[str]:
        """Return the machines that still keep rows of this run."""
        return {post.machine.name for post in self._posts if post.stays or post.machine.lost}

    def end(self, limit_s: float) -> None:
        """Wait until each machine has ended its portion; one that doesn't in time is lost."""
        give_up_s = time.monotonic() + limit_s
        for post in self._not_over():
            post.worker.tell("cancel")
        while (left := self._not_over()) and time.monotonic() < give_up_s:
            wait([post.worker.results for post in left], POLL_S)
            for post in left:
                self._drain(post)
        for post in self._not_over():
            post.machine.lose(f"didn't end within {limit_s:g} s")

    def _not_over(self) -> list[Post]:
        return [post for post in self._posts if not post.over and not post.machine.lost]

    def _drain(self, post: Post) -> None:
        """Read on to a portion's end, past what nobody wants any more."""
        messages = post.machine.inbox.take()
        if messages is None:
            post.machine.lose("died")
        for message in messages or ():
            self.take(post.worker, message)

    def facts(self) -> dict[str, Any]:
        """Return what the run's JSON says of the machines, once it is over."""
        self._pings.burst(PINGS_LIMIT_S)
        late = ReadTimes()
        for post in self._posts:
            late.first.update(post.lates.first)
            late.later.update(post.lates.later)
        return {
            "lateness_ms": late.facts()["lateness_ms"],
            "machines": [post.facts() for post in self._posts],
        }
