"""The head asks a machine for what it keeps of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ...crew.inbox import Inbox
from ...crew.worker import RunError
from ..messages import AllFetched, Fetch, FromDisk

POLL_S = 0.2
SILENT_S = 30.0  # without a batch: a slow disk has told one by then


class Keeps(Protocol):
    """A machine that may keep rows."""

    name: str
    inbox: Inbox

    def order(self, order: object) -> None:
        """Ask for something between runs."""


class Fetching:
    """What one machine keeps of one run, on its way here."""

    def __init__(
        self,
        machine: Keeps,
        order: Fetch,
        is_broken_off: Callable[[], bool],
        others: Callable[[object], None],
    ) -> None:
        """`others` takes what the machine says meanwhile of something else."""
        self.whole = False  # all of it came, and nothing was wrong
        self.problems: tuple[str, ...] = ()
        self._machine, self._order = machine, order
        self._is_broken_off, self._others = is_broken_off, others

    def batches(self) -> Iterator[FromDisk]:
        """Yield what comes, until it is all or nobody waits any more.

        Raises RunError where the machine is lost.
        """
        self._machine.order(self._order)
        heard_s = time.monotonic()
        while not self._is_broken_off():
            if messages := self._heard():
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > SILENT_S:
                raise RunError(f"said nothing for {SILENT_S:g} s while its rows were fetched")
            for message in messages:
                if not isinstance(message, FromDisk | AllFetched):
                    self._others(message)
                elif message.run_id != self._order.run_id:
                    pass  # of a fetching that was broken off
                elif isinstance(message, FromDisk):
                    yield message
                else:
                    self.whole, self.problems = not message.problems, message.problems
                    return

    def _heard(self) -> list[object]:
        self._machine.inbox.wait(POLL_S)
        messages = self._machine.inbox.take()
        if messages is None:
            raise RunError("died while its rows were fetched")
        return messages
