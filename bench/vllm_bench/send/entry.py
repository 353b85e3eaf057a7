"""Where a sending process begins.

The parent doesn't send, and starts sooner without the modules that do: the child loads them.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..plan.share import Share
    from .tickets import Tickets


def send_shares(tickets: Sequence[Tickets], core: int | None, orders: Pipe, results: Pipe) -> None:
    """Send the shares of a plan's parts, the first order; the entry point of the child process."""
    gc.disable()  # what is made before the start stays, and then it is frozen
    from .worker import run_worker

    try:
        shares: tuple[Share, ...] = orders.recv()
    except (EOFError, OSError):  # OSError: in the middle of it
        return  # the parent is gone, or has been told to stop
    run_worker(shares, tickets, core, orders, results)
