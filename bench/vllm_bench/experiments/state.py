"""`results/experiments/<id>.json`: what was asked of two servers, and what became of each visit.

Written after each step, so that a killed script loses nothing: which servers it started, which
visits are whole. It has the names of settings and a checksum, never the value of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..launch.left_behind import Process
from ..records.beside.going_on import Kept, KeptError, checksum, read_kept, readable, write_kept
from ..records.text import printable
from ..scenario.scenario import Scenario
from .visits import FEWEST_FOR_A_WORD, Side, Visit, left

FOLDER = "experiments"  # in the results

Status = Literal["going on", "whole", "failed", "broken off"]


class Asked(Kept):
    """One side: whose server, under which label."""

    label: str
    source: str  # the env file as it was given, or the URL of a server that stands
    sha256: str  # of the settings without secrets, or of the URL
    names: tuple[str, ...] = ()  # of the variables that the env file sets


class Attempt(Kept):
    """One try at a visit; a visit that didn't become whole is made again, as a whole."""

    visit: int = Field(ge=1)
    side: Side
    pair: int = Field(ge=1)
    seed: int
    status: Status = "going on"
    began: str  # UTC
    took_s: float | None = None
    ready_s: float | None = None  # from start to ready; None: it wasn't started for this
    server: Mapping[str, Any] = {}  # version, fingerprint, settings in force, as it says itself
    run_ids: tuple[str, ...] = ()
    why: str | None = None  # it isn't whole
    log: tuple[str, ...] = ()  # the server's last lines then


class State(Kept):
    """An experiment as far as it has come."""

    schema_version: Literal[1] = 1
    kind: Literal["ab"] = "ab"
    id: str
    turn: int = Field(1, ge=1, le=2)  # 2: a gate's second look, on fresh seeds
    repeats: str | None = None  # the id of the experiment whose second look this is
    scenario: str
    scenario_sha256: str
    restarted: bool
    visits: int = Field(ge=2)
    a: Asked
    b: Asked
    by: Process  # the script
    server: Process | None = None  # the one that stands now, leader of its group
    attempts: tuple[Attempt, ...] = ()
    looks: tuple[int, ...] = ()  # how many visits each comparison with words had: see METHOD.md

    def side(self, side: Side) -> Asked:
        return self.a if side == "a" else self.b

    @property
    def sides(self) -> dict[str, Asked]:
        """Both, by what people call them."""
        return {"A": self.a, "B": self.b}

    @property
    def whole(self) -> frozenset[int]:
        """The visits that are whole."""
        return frozenset(a.visit for a in self.attempts if a.status == "whole")

    @property
    def left(self) -> tuple[Visit, ...]:
        return left(self.visits, self.whole)

    def counted(self, side: Side) -> tuple[str, ...]:
        """Return the ids of a side's runs that count: those of whole visits."""
        whole = [a for a in self.attempts if a.status == "whole" and a.side == side]
        return tuple(run_id for a in whole for run_id in a.run_ids)

    def seen_s(self) -> dict[Side, list[float]]:
        """Return how long each side's whole visits took."""
        found: dict[Side, list[float]] = {"a": [], "b": []}
        for attempt in self.attempts:
            if attempt.status == "whole" and attempt.took_s is not None:
                found[attempt.side].append(attempt.took_s)
        return found

    def with_last(self, **changes: object) -> State:
        """Return it with its last attempt changed."""
        *before, last = self.attempts
        return self.model_copy(
            update={"attempts": (*before, last.model_copy(update=dict(changes)))}
        )

    def looked_at(self) -> State:
        """Return it with one look more, unless it is the same look again."""
        seen = len(self.whole)
        if seen < FEWEST_FOR_A_WORD or seen in self.looks:
            return self
        return self.model_copy(update={"looks": (*self.looks, seen)})

    def continues(self, other: State) -> bool:
        """Whether it asks the same of the same, so that it can go on where the other ended."""
        return self._asked() == other._asked()

    def _asked(self) -> tuple[object, ...]:
        sides = [(one.label, one.sha256) for one in (self.a, self.b)]
        return (self.turn, self.repeats, self.scenario_sha256, self.restarted, *sides)


def write_state(results: Path, state: State) -> None:
    """Write an experiment's file; readers see all of it or nothing. Raises OSError."""
    path = results / FOLDER / f"{state.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_kept(path, state)


def read_state(path: Path) -> State:
    """Read an experiment's file. Raises KeptError."""
    state = read_kept(path, "an experiment of ab.py", State.model_validate_json)
    if state.id != path.stem:
        raise KeptError(f"{path}: of another experiment: {printable(state.id, 60)}")
    return state


def experiments(results: Path) -> Iterator[State]:
    """Return the experiments of ab.py in a results folder, the newest first; no others."""
    return readable(sorted((results / FOLDER).glob("*.json"), reverse=True), read_state)


def scenario_sha256(scenario: Scenario) -> str:
    """Return a checksum of what decides a scenario's runs, secrets left out."""
    settings: Mapping[str, object] = scenario.masked()
    ignored = ("label", "description", "base_url")  # the side's own; none of the load's
    return checksum({k: v for k, v in settings.items() if k not in ignored})
