"""A machine's portion of a run, as it is told to the head: which has no other eyes there."""

from __future__ import annotations

import dataclasses
import time

from ...crew.worker import Crew, RunError
from ...live.progress import Progress
from ...plan.plan import Plan
from ...send.outbox import Alive, Connected, Finished, Go, Measured, Outbox, Pulse, Ready
from ...vllm.address import is_own_address
from ..kept.ended import Ended
from ..messages import Manned, SenderLost, Standing
from .orders import Orders

TELL_S = 1.0  # between two signs of life


class Portion:
    """A run on this machine, as it is told to the head beside its rows: what is `Above` the run."""

    def __init__(self, plan: Plan, orders: Orders, outbox: Outbox, ended: Ended) -> None:
        self._plan, self._orders, self._outbox, self._ended = plan, orders, outbox, ended
        self._crew: Crew | None = None
        self._last: list[Finished | SenderLost] = []  # told at the end
        self._told_s = 0.0
        self._measured = False

    # ---- above ----

    def manned(self, crew: Crew) -> None:
        """Note who sends here. From now on `look` gives signs of life, beside the pings."""
        self._crew = crew

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
        self._outbox.put(progress.read_times)
        if self._orders.leaving is None:  # else this machine doesn't end its portion, and is lost
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
            for worker in self._crew.workers if self._crew else ():
                worker.tell(Alive())  # where this process stands, they end by themselves

    def _stand(self) -> None:
        assert self._crew is not None
        due = {part.place: self._crew.due(part) for part in self._plan.drawn}
        self._outbox.put(Standing(self._crew.begun(), due))
        self._ended.stand()
        if self._orders.correction is not None:
            self._ended.correct(self._orders.correction)
            self._orders.correction = None
