"""A sign of life each second between the head and its machines, in runs and between them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from ..crew.runner import FROZEN_S
from .fleet import Machine

BEAT_S = 1.0


@contextlib.contextmanager
def beating(machines: Sequence[Machine]) -> Iterator[None]:
    """Ping all machines inside the block; one that doesn't answer for long is lost."""
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(machines, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()


def _beat(machines: Sequence[Machine], over: threading.Event) -> None:
    silent_s = [0.0] * len(machines)  # not by a clock: suspended itself, it has heard nobody
    while not over.wait(BEAT_S):
        for place, machine in enumerate(machines):
            if machine.lost is not None:
                continue
            silent_s[place] += BEAT_S
            try:
                machine.pipes["clock"].send(None)
                while machine.pipes["clock"].poll(0):
                    machine.pipes["clock"].recv()
                    silent_s[place] = 0.0
            except (OSError, EOFError):
                continue  # the end of its results tells the run
            if silent_s[place] > FROZEN_S:
                machine.kill()
                machine.lose(f"said nothing for {FROZEN_S:g} s and was killed")
