"""How long a test waits for what comes or ends by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_S = 300.0  # tells what hangs from what is slow, on a machine with many times the work it has

T = TypeVar("T")


def wait_until(condition: Callable[[], T]) -> T:
    """Wait for a condition to hold, and return what it found."""
    give_up_s = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < give_up_s, "it never came"
        time.sleep(0.01)
    return found


def ctrl_c_once(condition: Callable[[], object]) -> threading.Thread:
    """Send the main thread a Ctrl-C as soon as a condition holds; return who waits for that."""

    def wait() -> None:
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    waiting = threading.Thread(target=wait)
    waiting.start()
    return waiting
