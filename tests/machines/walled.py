"""sender.py on a machine from which nobody reaches the server: `walled.py HOST:PORT`."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace
from typing import Any

from vllm_bench.script import run
from vllm_bench.wire import opening


class Walled:
    """The loop of a process behind a wall."""

    async def sock_connect(self, _sock: Any, _address: Any) -> None:
        """Be refused."""
        raise ConnectionRefusedError(111, "Connection refused")


# At the top: the sending processes load this file too.
opening.asyncio = SimpleNamespace(get_running_loop=Walled)  # type: ignore[attr-defined]

if __name__ == "__main__":
    sys.exit(run(importlib.import_module("sender").main, aside=True))
