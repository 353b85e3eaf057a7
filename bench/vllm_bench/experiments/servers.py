"""The two servers of an experiment: started for each visit, or standing; those left behind."""

from __future__ import annotations

import difflib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import BenchError
from ..launch.check import checked
from ..launch.env import EnvFileError, Settings
from ..launch.ports import members
from ..launch.process import ServerProcess
from ..launch.said import said
from ..launcher import (
    DEFAULT_MODEL,
    HUBS_OWN,
    OF_COMPOSE,
    OF_THE_LAUNCHER,
    SECRETS,
    SETTINGS,
)
from ..records.text import masked, printable
from ..scenario.scenario import Scenario
from ..scenario.secrets import MASK, is_secret_key
from .state import Asked, Process, State, checksum

KNOWN = (*SETTINGS, *SECRETS, *OF_COMPOSE, *OF_THE_LAUNCHER, "EXTRA_ARGS")
LIKE = 0.85  # so alike, a name that isn't known is one of these mistyped: MAX_NUM_SEQ
WHERE = ("host", "port", "api_key")  # of what is asked: no setting that is compared
KEY_NAME = "VLLM_API_KEY"
TERM_S, KILLED_S = 10.0, 30.0  # for a server left behind to end, by itself and by SIGKILL

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

    def up(self, log: Path, limit_s: float, began: Callable[[int], None], wait: Wait) -> (
        AbstractContextManager[Up]
    ):
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
        found: dict[str, object] = {"base_url": self.settings.base_url}
        if self.settings.api_key and scenario.api_key_env is None:
            found["api_key_env"] = KEY_NAME
        names = served_names(self.settings)
        if names and scenario.model not in names and not self.keep_model:
            found["model"] = names[0]
        return scenario.model_copy(update=found)

    def environ(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        key = self.settings.api_key
        return {**environ, KEY_NAME: key} if key else environ

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


def refuse_mistyped(settings: Settings) -> None:
    """Refuse a variable that nobody reads but is nearly one of the launcher's.

    Any other may be one of vLLM's own. Raises EnvFileError.
    """
    for name in settings.values:
        near = difflib.get_close_matches(name.upper(), KNOWN, n=1, cutoff=LIKE)
        if name not in KNOWN and near:
            shown = printable(name, 60)
            raise EnvFileError(
                f"{settings.path}: {shown}: no such variable; did you mean {near[0]}?"
            )


# ---- servers that a killed script left behind ----


def process_of(pid: int) -> Process:
    """Return a process so that it can be told from a later one of the same number."""
    return Process(pid=pid, began_ticks=_began_ticks(pid))


def lives(process: Process) -> bool:
    """Whether it is still the same process; where /proc doesn't tell, it is taken for gone."""
    began = _began_ticks(process.pid)
    return began is not None and began == process.began_ticks


def left_behind(state: State) -> list[int]:
    """Return what lives of a server whose script was killed: its leader's whole session.

    No other process can have the number of a session that still has members. None where the
    script goes on, or where it can't be told.
    """
    server = state.server
    if server is None or server.began_ticks is None or lives(state.by):
        return []
    found = members(server.pid)
    if server.pid in found and not lives(server):
        return []  # the number is another one's by now
    return [pid for pid in found if (_began_ticks(pid) or 0) >= server.began_ticks]


def stop_left_behind(state: State) -> list[int]:
    """End what lives of a killed script's server, and return it. Raises BenchError."""
    found = left_behind(state)
    for number, limit_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILLED_S)):
        for pid in left_behind(state):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        give_up_s = time.monotonic() + limit_s
        while (alive := left_behind(state)) and time.monotonic() < give_up_s:
            time.sleep(0.05)
        if not alive:
            return found
    raise BenchError(
        f"a server that a killed ab.py left behind doesn't end: kill -9 {' '.join(map(str, alive))}"
    )


def _began_ticks(pid: int) -> int | None:
    """Return when a living process began, in clock ticks since the machine's start."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()  # a name may have blanks
    return None if words[0] in "ZX" else int(words[19])
