"""What starts the foremen of a session, and says where one ended that should not have."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from ...errors import BenchError


class MachinesError(BenchError):
    """Machines that don't come, or don't fit together; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The machines that will come."""

    count: int
    host: str | None = None  # where they reach this one; None: at its usual address


class Engine(Protocol):
    """Starts a foreman on each machine."""

    def attach(self) -> Reached:
        """Find the machines; starts none yet. Raises MachinesError, UsageError."""

    def start(self, address: str, key: bytes) -> None:
        """Have foremen dial this address with this key. Raises MachinesError.

        `address` is HOST:PORT. To HOST:PORT/WORD an engine may add a word of its own: its foremen
        don't wait for a head that has gone, and machines of one name are in the order of the words.
        """

    def ended(self) -> str | None:
        """Return what has ended, and why, in words; None: all of them are there."""

    def missing(self, came: Collection[str]) -> str | None:
        """Return whom it waits for, and their last words, where these words came; None: unknown."""

    def stop(self) -> None:
        """Leave nothing running that was started here."""


class ByHand:
    """Somebody else starts the foremen."""

    def __init__(self, machines: int) -> None:
        self._machines = machines

    def attach(self) -> Reached:
        """Believe that so many will come."""
        return Reached(self._machines)

    def start(self, address: str, key: bytes) -> None:
        """Nothing: they come by themselves."""

    def ended(self) -> str | None:
        """Return nothing: nobody knows of them."""
        return None

    def missing(self, came: Collection[str]) -> str | None:
        """Return nothing, as `ended`."""
        return None

    def stop(self) -> None:
        """Nothing: they end with their connections."""
