"""One machine of several: does its part of each run that the head asks for.

It runs that part as a run of its own, with sending processes of this machine, and reads and judges
their replies here: what goes to the head are rows and the stamps of tokens, not replies. Where the
head is gone, it stops loading the server at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection as Pipe

from ..crew.judged import Judged
from ..crew.runner import FROZEN_S, Watch, run_plan
from ..crew.started import started_by
from ..crew.worker import Crew, RunError
from ..errors import BenchError
from ..interrupts import Interrupts
from ..live.progress import Progress
from ..plan.plan import Plan
from ..send.outbox import (
    Alive,
    Broke,
    Connected,
    Finished,
    Go,
    Measured,
    Outbox,
    Pulse,
    Ready,
    in_words,
)
from ..vllm.address import is_own_address
from .kept.keeper import Keeper
from .kept.part import Ended
from .meeting.sockets import cut
from .messages import (
    Correction,
    Fetch,
    Forget,
    Idle,
    Kind,
    Lates,
    Leaving,
    LetGo,
    Manned,
    SenderLost,
    Serve,
    Standing,
    Told,
)

TELL_S = 1.0  # between two signs of life
POLL_S = 0.5


class Orders(Interrupts):
    """What the head asks for during a run, as one machine is asked by signals."""

    def __init__(self, pipe: Pipe, run_id: str) -> None:
        super().__init__()
        self._pipe, self._run_id = pipe, run_id
        self.go: Go | None = None
        self.correction: Correction | None = None  # the last that was told
        self.draining = False
        self.gone = False  # the head
        self._told = 0

    def __call__(self) -> int:
        """Return how urgently the end is asked for, by the head or by signals to this process."""
        try:
            while not self.gone and self._pipe.poll(0):
                self._hear(self._pipe.recv())
        except (EOFError, OSError):  # the head has ended, or was cut off by `_listen_to_head`
            self.gone, self._told = True, 2
        return max(self.asked, self._told)

    def _hear(self, told: Told) -> None:
        order = told.order
        if told.run_id != self._run_id:
            return
        if isinstance(order, Go):
            self.go = order
        elif isinstance(order, Correction):
            self.correction = order
        elif order == "drain":
            self.draining = True
        else:
            self._told = 2 if order == "cancel" else max(self._told, 1)


class _Part:
    """A run on this machine, as it is told to the head: a sink of its rows, and what it is for."""

    def __init__(self, plan: Plan, orders: Orders, outbox: Outbox, ended: Ended) -> None:
        self._plan, self._orders, self._outbox, self._ended = plan, orders, outbox, ended
        self._crew: Crew | None = None
        self._last: list[Finished | SenderLost] = []  # told at the end
        self._told_s = 0.0
        self._measured = False
        self._alive = threading.Event()  # something else tells that this process is

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life while a large plan is read, and processes start."""
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            yield
        finally:
            self._alive.set()

    def _beat(self) -> None:
        while not self._alive.wait(TELL_S):
            self._outbox.put(Alive())

    # ---- a sink ----

    def begin(self) -> None:
        """Note the start."""
        self._ended.begin()

    def write(self, ended: Sequence[Judged]) -> None:
        """Keep and tell requests that have ended."""
        self._ended.write(ended)

    def close(self) -> None:
        """No more come."""
        self._ended.close()

    # ---- a part of what is above ----

    def manned(self, crew: Crew) -> None:
        """Note who sends here. From now on `look` gives the signs of life."""
        self._crew = crew
        self._alive.set()
        self._ended.manned(crew)

    def ready(self) -> None:
        """Tell that everything here waits for the start."""
        self._outbox.put(Ready())

    def go(self) -> Go | None:
        """Return the start, once the head has told it."""
        return self._orders.go

    def measured(self) -> None:
        """Tell that no more rows of this machine are waited for."""
        if not self._measured:
            self._measured = True
            self._outbox.put(Measured())

    def draining(self) -> bool:
        """Whether all that was to be measured has ended, on all machines."""
        return self._orders.draining

    def hear(self, sender: int, message: object) -> None:
        """Pass on what a sending process says of itself; its end when all rows are told."""
        if isinstance(message, RunError):
            self._ended.lose(sender)
            self._last.append(SenderLost(sender, str(message)))
        elif isinstance(message, Finished):
            self._last.append(dataclasses.replace(message, sender=sender))
        elif isinstance(message, Pulse):
            self._outbox.put(dataclasses.replace(message, sender=sender))
        else:
            self._outbox.put(message)

    def over(self, progress: Progress) -> None:
        """Tell the last, behind all rows."""
        self._stand()
        self._outbox.put(Lates(progress.read_times.first, progress.read_times.later))
        if not self._orders.asked:  # else this machine doesn't end its part, and is lost
            for message in self._last:
                self._outbox.put(message)

    # ---- what a run calls ----

    def connected(self, streams: int, problem: str | None) -> None:
        """Tell how many streams are connected, and by whom."""
        assert self._crew is not None
        self._outbox.put(Connected(streams, problem))
        senders = [sender for worker in self._crew.workers for sender in worker.senders]
        here = any(is_own_address(part.target.host) for part in self._plan.drawn)
        self._outbox.put(Manned(senders, here))

    def look(self, _progress: Progress) -> None:
        """Tell each second how far it is."""
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            self._stand()

    def _stand(self) -> None:
        assert self._crew is not None
        due = {part.place: self._crew.due(part) for part in self._plan.drawn}
        self._outbox.put(Standing(self._crew.begun(), due))
        self._ended.stand()
        if self._orders.correction is not None:
            self._ended.correct(self._orders.correction)
            self._orders.correction = None


def nothing(*_: object) -> None:
    """Do nothing: the head is told by other means."""


def serve_run(order: Serve, orders: Pipe, outbox: Outbox, keeper: Keeper) -> Orders:
    """Do this machine's part of a run, and tell all of it; return what was asked meanwhile."""
    plan = order.plan
    asked = Orders(orders, plan.run_id)
    ended = Ended(plan, keeper, outbox.put, rows_stay=order.rows_stay)
    part = _Part(plan, asked, outbox, ended)
    watch = Watch(part.connected, nothing, part.look, asked, float("inf"), above=part)
    try:
        with asked.answered(), part.alive():
            run_plan(plan, part, started_by(order.workers), watch)
    except (RunError, OSError) as e:
        outbox.put(Broke(in_words(e)))
    except KeyboardInterrupt:  # before anything was sent
        pass
    outbox.put(Leaving("was interrupted there") if asked.asked else Idle(plan.run_id))
    return asked


def serve(pipes: dict[Kind, Pipe], keeper: Keeper) -> None:
    """Do this machine's part of each run, until the head lets it go.

    Raises BenchError where the head is lost, KeyboardInterrupt where a signal came.
    """
    threading.Thread(target=_listen_to_head, args=(pipes,), daemon=True).start()
    outbox = Outbox(pipes["results"])
    try:
        while not isinstance(order := pipes["orders"].recv(), LetGo):
            if isinstance(order, Serve):  # else it was for a run that is over
                asked = serve_run(order, pipes["orders"], outbox, keeper)
                asked.check()
                if asked.gone:
                    raise BenchError("bench.py was lost in the middle of a run, which was ended")
            elif isinstance(order, Fetch):
                for batch in keeper.told(order):
                    outbox.put(batch)
            elif isinstance(order, Forget):
                keeper.forget(order)
    except (EOFError, OSError) as e:
        raise BenchError("bench.py was lost") from e
    finally:
        outbox.close()


def _listen_to_head(pipes: dict[Kind, Pipe]) -> None:
    """Tell this machine's clock whenever the head asks for it: once a second, as a sign of life.

    Where that stops, all connections are cut: a pulled cable ends none. Before the head has asked
    for the first time it is still waiting for other machines.
    """
    clock, silent_s = pipes["clock"], float("-inf")
    try:
        while silent_s <= FROZEN_S:
            if clock.poll(POLL_S):
                number = clock.recv()
                clock.send((number, time.perf_counter_ns()))
                silent_s = 0.0
            else:  # not by a clock: suspended itself, this machine has heard nobody
                silent_s += POLL_S
    except (EOFError, OSError):
        time.sleep(POLL_S)  # the head's last word is on another connection, and may come later
    for pipe in pipes.values():
        cut(pipe)
