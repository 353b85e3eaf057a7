"""Where a sending process begins.

The parent doesn't send, and starts sooner without the modules that do: the child loads them.
"""

from __future__ import annotations

import gc
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..plan.share import Share
    from .tickets import Tickets


def send_share(tickets: Tickets, core: int | None, orders: Pipe, results: Pipe) -> None:
    """Send a share of a plan, the first order; the entry point of the child process."""
    gc.disable()  # what is made before the start stays, and then it is frozen
    from .worker import run_worker

    try:
        share: Share = orders.recv()
    except (EOFError, OSError):  # OSError: in the middle of it
        return  # the parent is gone, or has been told to stop
    run_worker(share, tickets, core, orders, results)
