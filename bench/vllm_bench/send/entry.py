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


def send_share(
    share: Share, tickets: Tickets, core: int | None, orders: Pipe, results: Pipe
) -> None:
    """Send a share of a plan; the entry point of the child process."""
    gc.disable()  # what is made before the start stays, and then it is frozen
    from .worker import run_worker

    run_worker(share, tickets, core, orders, results)
