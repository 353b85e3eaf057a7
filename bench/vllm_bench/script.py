"""How a script ends when somebody presses Ctrl-C: with its exit code, not with a traceback."""

from __future__ import annotations

import signal
from collections.abc import Callable

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def ended(main: Callable[[], int]) -> int:
    """Run a script's main, its imports included, and return its exit code; 130 after Ctrl-C."""
    try:
        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        # What follows is Python's own end: another Ctrl-C there ends it without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
