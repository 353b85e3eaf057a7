"""The two servers of an experiment: each is started for a visit, or stands all the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..launch.check import checked
from ..launch.env import Settings
from ..launch.process import ServerProcess
from ..launch.said import said
from ..launcher import DEFAULT_MODEL, HUBS_OWN
from ..records.beside.going_on import checksum
from ..records.text import masked
from ..scenario.scenario import Scenario
from ..scenario.secrets import MASK, is_secret_key
from .state import Asked

WHERE = ("host", "port", "api_key")  # of what is asked: no setting that is compared

Wait = Callable[[float], None]  # called between looks, with the seconds since the start


@dataclass(frozen=True, slots=True)
class Up:
    """A server while it stands."""

    ready_s: float | None = None  # from start to ready; None: it stood before
    said: Mapping[str, Any] | None = None  # settings in force, as it tells them; None: not asked
    wrong: tuple[str, ...] = ()  # what was asked and isn't so, a line each
    unchecked: tuple[str, ...] = ()  # what was asked, and nobody can tell
    process: ServerProcess | None = None

    @property
    def ended(self) -> bool:
        """Whether the process that was started is gone."""
        return self.process is not None and not self.process.is_alive

    def last_lines(self) -> tuple[str, ...]:
        return tuple(self.process.last_lines()) if self.process else ()


class SideServer(Protocol):
    """One side's server."""

    @property
    def asked(self) -> Asked: ...

    def scenario(self, scenario: Scenario) -> Scenario:
        """Return the scenario as it goes to this server."""

    def environ(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """Return the environment with this server's key in it."""

    def check_port(self) -> None:
        """Raise PortTakenError where somebody else listens where it should."""

    def up(
        self, log: Path, limit_s: float, began: Callable[[int], None], wait: Wait
    ) -> AbstractContextManager[Up]:
        """Return a context in which it stands."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A server that stands, before and after."""

    label: str
    base_url: str

    @property
    def asked(self) -> Asked:
        return Asked(label=self.label, source=self.base_url, sha256=checksum(self.base_url))

    def scenario(self, scenario: Scenario) -> Scenario:
        return scenario.model_copy(update={"base_url": self.base_url})

    def environ(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        return environ

    def check_port(self) -> None:
        """Do nothing: its port is taken by right."""

    @contextmanager
    def up(
        self, _log: Path, _limit_s: float, _began: Callable[[int], None], _wait: Wait
    ) -> Iterator[Up]:
        """Do nothing: the runs wait for it, and ask what it is."""
        yield Up()


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is started for each visit, with the settings of an env file."""

    label: str
    settings: Settings
    keep_model: bool = False  # the scenario's model is meant, whatever is served

    @property
    def asked(self) -> Asked:
        settings = self.settings
        facts = {
            name: MASK if is_secret_key(name) else masked(text, settings.secrets)
            for name, text in settings.asked.items()
            if name not in WHERE
        }
        of_file = {name: text for name, text in settings.shown.items() if name.lower() not in WHERE}
        return Asked(
            label=self.label,
            source=str(settings.path),
            sha256=checksum([facts, of_file]),
            names=tuple(sorted(settings.values)),
        )

    def scenario(self, scenario: Scenario) -> Scenario:
        """Return it with this server's address, key and model."""
        names = served_names(self.settings)
        if names and scenario.model not in names and not self.keep_model:
            scenario = scenario.model_copy(update={"model": names[0]})
        return self.settings.reached_by(scenario)

    def environ(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        return {**environ, **self.settings.key}

    def check_port(self) -> None:
        ServerProcess(self.settings, Path(os.devnull)).check_port()

    @contextmanager
    def up(
        self, log: Path, limit_s: float, began: Callable[[int], None], wait: Wait
    ) -> Iterator[Up]:
        """Start it, wait, and ask what it is; at the block's end it is stopped, with all it began.

        Raises PortTakenError, StartFailedError, StopFailedError, OSError.
        """
        with ServerProcess(self.settings, log) as process:
            assert process.pid is not None
            began(process.pid)
            ready_s = process.ready(limit_s, wait)
            with closing(process.server()) as server:
                told = said(server, log)
            found = checked(self.settings, told)
            yield Up(ready_s, told, found.wrong, found.unchecked, process)


def served_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that the server will know its model by; none where adapters have others."""
    asked = settings.asked
    if "lora_modules" in asked:
        return ()
    if given := asked.get("served_model_name", "").split():
        return tuple(given)
    by_env = settings.environ.get("MODEL") or DEFAULT_MODEL
    return (asked["model"], by_env) if by_env in HUBS_OWN else (asked["model"],)
