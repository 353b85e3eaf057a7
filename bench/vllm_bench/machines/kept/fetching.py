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


def kept_by(
    machine: Keeps,
    order: Fetch,
    is_broken_off: Callable[[], bool] = lambda: False,
    others: Callable[[object], None] = lambda _: None,
) -> Iterator[FromDisk | AllFetched]:
    """Yield what a machine keeps of a run, and last `AllFetched`, unless it is broken off.

    `others` takes what the machine says meanwhile of something else. Raises RunError where the
    machine is lost.
    """
    machine.order(order)
    heard_s = time.monotonic()
    while not is_broken_off():
        machine.inbox.wait(POLL_S)
        messages = machine.inbox.take()
        if messages is None:
            raise RunError("died while its rows were fetched")
        if messages:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > SILENT_S:
            raise RunError(f"said nothing for {SILENT_S:g} s while its rows were fetched")
        for message in messages:
            if not isinstance(message, FromDisk | AllFetched):
                others(message)
            elif message.run_id == order.run_id:  # else of a fetching that was broken off
                yield message
                if isinstance(message, AllFetched):
                    return
