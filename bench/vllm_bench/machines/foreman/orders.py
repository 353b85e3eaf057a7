"""What the head asks for during a run, as one machine is asked by signals."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection as Pipe

from ...interrupts import Interrupts
from ...send.outbox import Go
from ..messages import Correction, LetGo, Told


class Orders(Interrupts):
    """What the head asks for during a run, as one machine is asked by signals."""

    def __init__(self, pipe: Pipe, run_id: str) -> None:
        super().__init__()
        self._pipe, self._run_id = pipe, run_id
        self.go: Go | None = None
        self.correction: Correction | None = None  # the last that was told
        self.draining = False
        self.gone = False  # the head, or the way to it
        self._told = 0
        self._parent = os.getppid()

    def __call__(self) -> int:
        """Return how urgently the end is asked for, by the head or by signals to this process."""
        try:
            while not self.gone and self._pipe.poll(0):
                self._hear(self._pipe.recv())
        except (EOFError, OSError):  # the head has ended, or was cut off by `_listen_to_head`
            self.gone, self._told = True, 2
        return max(self.asked, self._told)

    @property
    def leaving(self) -> str | None:
        """Why this machine ends before its portion does, in words; None: it doesn't."""
        if self.asked and os.getppid() != self._parent:  # so ends whom a dead actor of Ray's left
            return "ended with what had started it there, which died"
        if self.asked:
            return "was interrupted there"
        return "was cut off from bench.py (or heard nothing of it for 10 s)" if self.gone else None

    def _hear(self, told: Told | LetGo) -> None:
        if isinstance(told, LetGo):  # by a head that was told twice to end, before the run's start
            self.gone, self._told = True, 2
            return
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
