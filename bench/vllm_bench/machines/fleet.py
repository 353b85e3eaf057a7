"""The machines of a session, as the head has them: connected once, and a crew in each run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from typing import Any

from ..crew.health import WorkerHealth
from ..crew.inbox import Inbox
from ..crew.judged import Judged
from ..crew.runner import FROZEN_S
from ..crew.worker import RunError, Worker
from ..interrupts import Interrupts
from ..plan.part import Part
from ..plan.plan import Plan
from ..reply.read_times import ReadTimes
from ..send.outbox import Connected
from .clocks.pings import MachineClock, Pings
from .clocks.timeline import Timeline
from .deal import as_told, dealt, owners
from .kept.fetching import Fetching
from .meeting.sockets import cut
from .messages import (
    Fetch,
    Forget,
    Idle,
    Kind,
    Lates,
    Leaving,
    LetGo,
    MachineFacts,
    Manned,
    NotKept,
    SenderLost,
    Serve,
    Standing,
    Told,
)

HEAD_START_S = 0.5  # from the order to start to the start: the order crosses a network
END_LIMIT_S = 10.0  # for machines to end their parts of a run that was broken off
POLL_S = 0.2
PINGS_LIMIT_S = 5.0  # for fifty pings of each after a run


@dataclass(slots=True)
class Machine:
    """A machine, over its three connections."""

    name: str
    facts: MachineFacts
    pipes: dict[Kind, Pipe]
    stop: Callable[[], None]  # kills its foreman, where who started it can
    inbox: Inbox = field(init=False)
    clock: MachineClock = field(init=False)
    lost: str | None = None  # how it was
    missed: bool = False  # lost in the middle of a run, whose verdict tells it
    leaving: str | None = None  # why it is about to go, as it said itself

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.pipes["results"])
        self.clock = MachineClock(self.pipes["clock"])

    def order(self, order: object) -> None:
        """Ask for something between runs; a lost machine isn't asked."""
        if self.lost is None:
            with contextlib.suppress(OSError):  # shown by its results
                self.pipes["orders"].send(order)

    def lose(self, how: str) -> str:
        """Cut its connections: its foreman stops sending then; return how it was lost.

        They are closed at the session's end, when no thread has them in its hands any more.
        """
        self.lost = self.lost or self.leaving or how
        for pipe in self.pipes.values():
            cut(pipe)
        return self.lost

    def kill(self) -> None:
        """End what doesn't answer."""
        for pipe in self.pipes.values():
            cut(pipe)
        self.stop()

    def let_go(self) -> None:
        """Say that the session is over."""
        if self.lost is None:
            with contextlib.suppress(OSError):
                self.pipes["orders"].send(LetGo())
        self.clock.close()
        for kind in ("orders", "results"):
            self.pipes[kind].close()


class Fleet:
    """Machines that send together."""

    def __init__(
        self,
        machines: Sequence[Machine],
        workers: int | None = None,
        host: str = "127.0.0.1",
        *,
        rows_stay: bool = False,
    ) -> None:
        """`workers`: sending processes of each; None: as many as suit its part and its cores.

        `host`: this machine's address, as they know it. `rows_stay`: they are fetched after a
        run's end.
        """
        self.machines, self.host = machines, host
        self.rows_stay = rows_stay
        self._workers = workers
        self._unfetched: dict[str, set[str]] = {}  # by run: machines that keep rows of it
        self._pings = Pings([machine.clock for machine in machines])

    def idle(self, plan: Plan) -> list[str]:
        """Return which machines have nothing to send of a plan: its streams are fewer than they."""
        dealt = self._dealt(plan)
        return [str(m.machine) for m in dealt if not any(part.own.places for part in m.drawn)]

    @property
    def missed(self) -> bool:
        """Return whether a run has ended without one of them: it is the last one."""
        return any(machine.missed for machine in self.machines)

    def check_there(self) -> None:
        """Look whether all of them are there. Raises RunError."""
        self._look_at_clocks()
        gone = [f"{m.name} {m.lost}" for m in self.machines if m.lost]
        if gone:
            raise RunError(f"{', '.join(gone)}: start again, with --resume for what is missing")

    @contextlib.contextmanager
    def crew(self, plan: Plan, interrupts: Interrupts) -> Iterator[MachineCrew]:
        """Deal a plan to the machines, and have them man it. Raises RunError: one was lost."""
        self.check_there()
        crew = MachineCrew(
            plan.run_id, self.machines, self._dealt(plan), self._pings, rows_stay=self.rows_stay
        )
        try:
            for worker in crew.workers:
                interrupts.check()
                crew.hand_over(worker, self._workers)
            yield crew
        finally:
            crew.end(END_LIMIT_S)
            self._unfetched[plan.run_id] = crew.unfetched()

    def names(self) -> list[dict[str, str]]:
        """Return which machines these are, as the run's JSON says it."""
        return [{"machine": one.name, "host": one.facts.host} for one in self.machines]

    def forget(self, run_id: str, session: str) -> list[str]:
        """Let machines forget a run whose files are written; return those that still need it."""
        needed = self._unfetched.get(run_id, set())
        for machine in self.machines:
            if machine.name not in needed:
                machine.order(Forget(run_id, session))
        return sorted(needed)

    def _dealt(self, plan: Plan) -> list[Plan]:
        names = [machine.name for machine in self.machines]
        return dealt(plan, names, [machine.facts.cores for machine in self.machines])

    def _look_at_clocks(self) -> None:
        """See where all clocks are; a machine that doesn't tell its own is lost."""
        self._pings.burst(FROZEN_S)
        for machine in self.machines:
            if machine.lost is None and not machine.clock.answers:
                gone = machine.clock.closed
                machine.kill()
                machine.lose("died" if gone else "doesn't answer, and was killed")


@dataclass(slots=True)
class _Post:
    """A machine in one run."""

    machine: Machine
    plan: Plan  # its part
    timeline: Timeline
    worker: Worker
    begun: int = 0
    due: dict[int, int] = field(default_factory=dict)  # by part
    over: bool = True  # from Idle on; and before it was given its part
    stays: bool = False  # its rows, until they are fetched
    fetched: int = 0  # rows that came after the run's end
    server_is_here: bool | None = None  # None: it hasn't said
    lates: ReadTimes = field(default_factory=ReadTimes)  # only how late reads were


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
            _post(machine, plan, run_id) for machine, plan in zip(machines, plans, strict=True)
        ]
        for post in self._posts:
            post.stays = rows_stay
            post.due = {part.place: part.due(0) for part in post.plan.drawn}
        tailed = [(n, part) for n, part in enumerate(plans[0].drawn) if part.has_tail]
        self._owners = {p.place: owners([plan.drawn[n].own for plan in plans]) for n, p in tailed}

    @property
    def workers(self) -> Sequence[Worker]:
        """Return one for each machine."""
        return [post.worker for post in self._posts]

    def begun(self) -> int:
        """Return how many requests of closed loops have begun, as far as they have told."""
        return sum(post.begun for post in self._posts)

    def due(self, part: Part) -> int:
        """Return how many requests of a part should have a row, by those that have begun."""
        return sum(post.due[part.place] for post in self._posts)

    def to_measure(self) -> list[int]:
        """Return, of each machine, how many requests by the clock it is to measure."""
        return [
            sum(part.own.below(part.measured) for part in post.plan.drawn if part.has_tail)
            for post in self._posts
        ]

    def owner(self, part: Part, number: int) -> int:
        """Return which machine sends request `number` of a part by the clock."""
        found = self._owners[part.place]
        return found[number % len(found)]

    def hand_over(self, worker: Worker, workers: int | None) -> None:
        """Give a machine its part.

        Raises RunError: it doesn't take it; OSError: a file that travels with it can't be read.
        """
        post = self._post(worker)
        order = Serve(as_told(post.plan), workers, post.stays)
        try:
            worker.orders.send(order)
            post.over = False
        except OSError as e:
            how = self.lose(worker, "didn't take its part of the load")
            raise RunError(f"{worker.name} {how} ({e.strerror or e})") from e
        except BaseException:  # half an order can't be followed by another
            post.machine.lose("was interrupted while it got its part")
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

    def _post(self, worker: Worker) -> _Post:
        return next(post for post in self._posts if post.worker is worker)

    def take(self, worker: Worker, message: object) -> None:
        """Take what a foreman says of its machine."""
        post = self._post(worker)
        if isinstance(message, Manned):
            worker.senders, post.server_is_here = message.senders, message.server_is_here
            for sender in worker.senders:
                sender.machine = post.machine.name
        elif isinstance(message, Standing):
            post.begun, post.due = message.begun, dict(message.due)
            if correction := post.timeline.correction():
                worker.tell(correction)
        elif isinstance(message, SenderLost):
            worker.senders[message.sender].lost = True
            self._notes.append(f"{worker.name}: {message.text}")
        elif isinstance(message, Lates):
            post.lates = ReadTimes(message.first, message.later)
        elif isinstance(message, Leaving):
            post.machine.leaving = message.why
        elif isinstance(message, Idle):
            post.over = True
            for sender in worker.senders:  # of a part that broke, and had no last word
                sender.lost = sender.lost or not sender.ended
        elif isinstance(message, NotKept):
            self._notes.append(f"{worker.name} keeps no more rows: {message.text}")

    def rest(self, is_broken_off: Callable[[], bool]) -> Iterator[tuple[Worker, Sequence[Judged]]]:
        """Yield the rows that stayed on the machines, one machine after the other."""
        for post in self._posts:
            if not post.stays or post.machine.lost:
                continue
            others = partial(self.take, post.worker)
            order = Fetch(self._run_id, post.plan.session, own=True)
            fetching = Fetching(post.machine, order, is_broken_off, others)
            try:
                for batch in fetching.batches():
                    post.fetched += sum(one.role == "measured" for one in batch.ended)
                    yield post.worker, post.worker.ours(batch.ended)
            except RunError as e:
                self._notes.append(f"{post.machine.name} {self.lose(post.worker, str(e))}")
                post.worker.lose()
            self._notes += [f"{post.machine.name}: {problem}" for problem in fetching.problems]
            post.stays = not fetching.whole

    def unfetched(self) -> set[str]:
        """Return the machines that still keep rows of this run."""
        return {post.machine.name for post in self._posts if post.stays or post.machine.lost}

    def end(self, limit_s: float) -> None:
        """Wait until each machine has ended its part; one that doesn't in time is lost."""
        give_up_s = time.monotonic() + limit_s
        for post in self._not_over():
            post.worker.tell("cancel")
        while (left := self._not_over()) and time.monotonic() < give_up_s:
            wait([post.worker.results for post in left], POLL_S)
            for post in left:
                self._drain(post)
        for post in self._not_over():
            post.machine.kill()
            post.machine.lose(f"didn't end within {limit_s:g} s")

    def _not_over(self) -> list[_Post]:
        return [post for post in self._posts if not post.over and not post.machine.lost]

    def _drain(self, post: _Post) -> None:
        """Read on to a part's end, past what nobody wants any more."""
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
            "machines": [
                {
                    "machine": post.machine.name,
                    "host": post.machine.facts.host,
                    "cores": post.machine.facts.cores,
                    "nice": post.machine.facts.nice,
                    "boot_id": post.machine.facts.boot_id,
                    "python": post.machine.facts.python,
                    "most_files": post.machine.facts.most_files,
                    "senders": len(post.worker.senders),
                    "server_here": post.server_is_here,
                    "lateness_ms": post.lates.facts()["lateness_ms"],
                    "lost": post.machine.lost,
                    "rows": post.worker.rows,
                    **post.timeline.facts(),
                    "fetched": None if post.stays or post.machine.lost else post.fetched,
                }
                for post in self._posts
            ],
        }


def _post(machine: Machine, plan: Plan, run_id: str) -> _Post:
    timeline = Timeline(machine.clock)
    worker = Worker(
        machine.name,
        machine.pipes["orders"],
        machine.pipes["results"],
        machine.inbox,
        [WorkerHealth(0, None, 0, machine=machine.name)],
        machine.kill,
        ours=timeline.ours,
        theirs=lambda order: Told(run_id, timeline.theirs(order)),
        frozen=machine.clock.frozen,
        roomy=True,  # what the head hasn't read waits in the socket, or with the machine
    )
    return _Post(machine, plan, timeline, worker)
