"""What a run is told beside its plan: whom it calls, and how it is asked for its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..interrupts import Interrupts
from ..live.progress import Progress
from ..records.run_info import ClockPair
from ..send.outbox import Go
from .ending import Enough
from .worker import Crew


class Above(Protocol):
    """The run over several machines that a run on one of them is a portion of."""

    def manned(self, crew: Crew) -> None:
        """These send here."""

    def ready(self) -> None:
        """Everything here waits for the start."""

    def go(self) -> Go | None:
        """Return the start, once it is known: late enough for all machines."""

    def measured(self) -> None:
        """All that was to be measured here has ended, or is lost."""

    def draining(self) -> bool:
        """Whether all that was to be measured has ended, on all machines."""

    def hear(self, sender: int, message: object) -> None:
        """A sending process has said something of itself, or (RunError) was lost."""

    def over(self, progress: Progress) -> None:
        """All of it was sent, and handed to the sink."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the script is called for, and how it asks for the end."""

    on_connected: Callable[[int, str | None], None]  # streams connected, first problem
    on_start: Callable[[ClockPair, dict[str, Any]], None]  # when, and how: see Plan.start_facts
    on_progress: Callable[[Progress], None]
    interrupts: Interrupts
    give_up_s: float  # after how long of nothing but requests turned away the server is gone
    enough: Enough | None = None
    above: Above | None = None  # None: the run is whole
