"""A server that stands still at a request, so that a test does something just then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..far_end import Step, TinyVllm
from .waiting import LIMIT_S


@contextmanager
def held_at(server: TinyVllm, number: int) -> Iterator[Callable[[], None]]:
    """Have a server answer nobody from this completion on, up to the block's end.

    Yield what waits for that. However late the test hears of it, no run is over by then.
    """
    there, go_on = threading.Event(), threading.Event()
    as_before = server.misbehave

    def stand(completion: int) -> list[Step] | None:
        if completion == number:
            there.set()
            go_on.wait(LIMIT_S)
        return as_before(completion)

    def reached() -> None:
        assert there.wait(LIMIT_S), "it never came"

    server.misbehave = stand
    try:
        yield reached
    finally:
        go_on.set()
