"""What the head of a run and the foreman on each machine tell each other.

Beside these a foreman passes on what its sending processes say of themselves (send/outbox.py), and
each request that has ended (crew/judged.py), several in one tuple.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..crew.health import WorkerHealth
from ..crew.judged import Judged
from ..plan.plan import Plan

Kind = Literal["orders", "results", "clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What a foreman says of its machine before any run."""

    host: str
    cores: int  # that it may use
    python: str
    code: str  # a digest of this project's code
    boot_id: str | None  # equal ones are one machine; None: unknown
    nice: int
    runs_kept: tuple[str, ...] = ()  # runs of which it has rows that nobody has fetched
    kept_in: str | None = None  # the folder of these; None: it has none


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on each connection that a foreman opens."""

    kind: Kind
    foreman: str  # a word that no other has
    facts: MachineFacts
    called: str = ""  # what the engine that started it calls it; empty: nothing


# ---- from the head ----


@dataclass(frozen=True, slots=True)
class Serve:
    """Send this machine's portion of a run."""

    plan: Plan
    workers: int | None  # sending processes; None: as many as suit it
    rows_stay: bool = False  # until the run is over


@dataclass(frozen=True, slots=True)
class Told:
    """An order of a run that may be over by now."""

    run_id: str
    order: object


@dataclass(frozen=True, slots=True)
class LetGo:
    """The session is over. Without this word its end is the loss of the head."""


@dataclass(frozen=True, slots=True)
class Correction:
    """How a machine's times of a run become the head's, by the last line known of its clock.

    In a `Told` during the run: rows that are fetched once the head is gone need it.
    """

    shift_ns: int = 0  # so much earlier the run's start was by the head's clock
    drift: float = 0.0  # so much more of each ns since then

    def ours(self, theirs_ns: int) -> int:
        """Return the head's time for one of the machine's, both in ns from the run's start."""
        return theirs_ns + self.later_ns(theirs_ns)

    def later_ns(self, theirs_ns: int) -> int:
        """Return how much later an instant is by the head's clock."""
        return -self.shift_ns - round(self.drift * theirs_ns)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Between runs: tell all that is kept of a run."""

    run_id: str
    session: str
    machine: str | None = None  # of this one alone: others may keep in the same folder


@dataclass(frozen=True, slots=True)
class Forget:
    """Between runs: what these machines keep of a run is written elsewhere."""

    run_id: str
    session: str
    machines: tuple[str, ...]


# ---- from a foreman ----


@dataclass(frozen=True, slots=True)
class Leaving:
    """The last word of a foreman that ends before its portion does."""

    why: str


@dataclass(frozen=True, slots=True)
class Manned:
    """The sending processes of a run are connected to the server."""

    senders: list[WorkerHealth]
    server_is_here: bool  # whether its address is one of this machine's; a tunnel looks the same


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a machine is; each second, also as a sign of life."""

    begun: int  # requests of closed loops
    due: Mapping[int, int]  # by part: requests that should have a row


@dataclass(frozen=True, slots=True)
class SenderLost:
    """A sending process died, or was killed since it said nothing."""

    sender: int
    text: str


@dataclass(frozen=True, slots=True)
class NotKept:
    """From now on nothing of a run is kept here: its rows cross as they end."""

    text: str


@dataclass(frozen=True, slots=True)
class FromDisk:
    """Requests that were kept, as a machine judged them."""

    run_id: str
    machine: str
    ended: tuple[Judged, ...]
    correction: Correction | None = None  # None: no line of its clock was told

    @property
    def memory_bytes(self) -> int:
        """About what it takes."""
        return sum(one.memory_bytes for one in self.ended)


@dataclass(frozen=True, slots=True)
class AllFetched:
    """That was all that is kept of a run."""

    run_id: str
    problems: tuple[str, ...] = ()  # files that can't be read to their end


@dataclass(frozen=True, slots=True)
class Idle:
    """A run is over here: nothing more comes of it."""

    run_id: str
