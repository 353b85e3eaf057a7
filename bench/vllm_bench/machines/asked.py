"""The machines that a script's flags ask for: started, gathered, and found to fit together."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError
from ..open_files import allow_files
from ..records.text import printable
from ..scenario.secrets import Sender, without_keys
from .door import Arrived, Door, open_door
from .engines.by_command import ByCommand
from .engines.engine import ByHand, Engine, MachinesError
from .engines.ray_engine import ByRay, own_nodes
from .facts import machine_facts
from .fleet.fleet import Fleet
from .fleet.machine import Machine
from .meeting.address import Address, address_of, own_host
from .meeting.key import MOST, fresh, key_of

LOOK_S = 0.05
SAY_AGAIN_S = 10.0
MOST_NAME = 40  # characters
FILES, FILES_A_MACHINE = 200, 4  # that are open at once: newcomers, a run's; connections, its words


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for of several machines."""

    senders: Sequence[str] = ()  # commands that start foremen
    ray: str | None = None  # HOST:PORT of a cluster, auto, or local:N
    machines: int | None = None  # how many
    listen: str | None = None  # HOST[:PORT]
    key_file: Path | None = None
    workers: int | None = None  # sending processes of each; None: as many as suit it
    keep_rows_remote: bool = False  # until a run is over
    environ: Mapping[str, str] = field(default_factory=dict)  # of what is started here

    def without_keys_of(self, *scenarios: Sender) -> Asked:
        """Return it less the keys that these are sent with.

        srun and Ray pass variables on to other machines.
        """
        return dataclasses.replace(self, environ=without_keys(self.environ, scenarios))


@contextlib.contextmanager
def fleet_asked(asked: Asked, say: Callable[[str], None], limit_s: float) -> Iterator[Fleet | None]:
    """Gather the machines that flags ask for, within a limit; None: this one sends alone.

    Raises UsageError, MachinesError.
    """
    engine = _engine(asked)
    if engine is None:
        yield None
        return
    key = _key(asked.key_file)
    machines: list[Machine] = []
    try:
        reached = engine.attach()
        wanted = asked.machines or reached.count
        at = _listen_at(asked.listen, reached.host)
        files = FILES + FILES_A_MACHINE * wanted
        if not allow_files(files):
            say(
                f"note: {files} files may be open at once, and fewer are allowed: ulimit -n {files}"
            )
        with open_door(at, key, wanted, machine_facts()) as door:
            engine.start(str(door.address), key)
            say(f"waiting for {some_machines(wanted)} at {door.address}")
            machines += _named(_gathered(door, engine, wanted, limit_s, say))
        say("; ".join(f"{m.name}: {m.facts.cores} cores" for m in machines))
        yield Fleet(machines, asked.workers, at.host, rows_stay=asked.keep_rows_remote)
    finally:
        try:
            if any(machine.lost for machine in machines) and (ended := engine.ended()):
                say(ended)
            for machine in machines:
                machine.let_go()
        finally:
            engine.stop()


def check(asked: Asked, say: Callable[[str], None]) -> None:
    """Refuse what can't be meant, before anything else is done. Raises UsageError."""
    if _engine(asked) is None:
        return
    _listen_at(asked.listen, None)
    path = asked.key_file
    if path is not None and not path.is_fifo():  # that can be read once
        _key(path)
        if path.stat().st_mode & 0o007:
            say(f"note: --key-file {path}: everybody on this computer may read it: chmod 600")


def say_dry(asked: Asked, say: Callable[[str], None]) -> None:
    """Say what a dry run knows of the machines, which it doesn't start. Raises UsageError."""
    if _engine(asked) is not None:
        count = asked.machines or len(asked.senders) or own_nodes(asked.ray or "")
        many = some_machines(count) if count else "machines of a cluster"
        say(f"sent from {many}, each its portion by its cores: a dry run starts none")


def _engine(asked: Asked) -> Engine | None:
    """Return what starts the machines; None: nothing asks for any. Raises UsageError."""
    if asked.senders and asked.ray:
        raise UsageError("--senders and --ray: one of both starts the machines")
    if asked.senders:
        if asked.machines and asked.machines < len(asked.senders):
            raise UsageError(
                f"--machines {asked.machines}: there are {len(asked.senders)} --senders, and each "
                "starts one machine at least"
            )
        return ByCommand(asked.senders, asked.environ)
    if asked.ray:
        return ByRay(asked.ray, asked.machines, asked.environ)
    if asked.machines:
        if not asked.listen or not asked.key_file:
            raise UsageError(
                "--machines without --senders or --ray: somebody else starts sender.py there, and "
                "needs --listen HOST:PORT and --key-file F"
            )
        return ByHand(asked.machines)
    for name in ("listen", "key_file", "keep_rows_remote"):
        if getattr(asked, name) not in (None, False):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: for several machines alone: --senders, --ray, --machines")
    return None


def _listen_at(text: str | None, reached: str | None) -> Address:
    if text is None:
        return Address(reached or own_host(), 0)
    at = address_of(text, "--listen", port=0)
    if _is_everywhere(at.host):
        raise UsageError(f"--listen {text}: every address; name the one that the machines dial")
    return at


def _is_everywhere(host: str) -> bool:
    """Whether it means all addresses of this machine, in any of its forms: 0.0.0.0, 0, ::."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:  # a name
        return host == "*"
    numbers = [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]
    return any((getattr(n, "ipv4_mapped", None) or n).is_unspecified for n in numbers)


def _key(path: Path | None) -> bytes:
    if path is None:
        return fresh()
    try:
        with path.open("rb") as file:
            return key_of(file.read(2 * MOST), f"--key-file {path}")
    except OSError as e:
        raise UsageError(f"--key-file {path}: {e.strerror}") from e


def _gathered(
    door: Door, engine: Engine, wanted: int, limit_s: float, say: Callable[[str], None]
) -> list[Arrived]:
    """Return as many foremen as are wanted, once they are in."""
    begin_s = said_s = time.monotonic()
    turned_away, turned_s = 0, float("-inf")
    while len(whole := door.whole()) < wanted:
        ended, now_s = engine.ended(), time.monotonic()
        if door.misfit:
            raise MachinesError(printable(door.misfit, 300))
        have = f"{len(whole)} of {some_machines(wanted)} came"
        if ended or now_s - begin_s > limit_s:
            over = f"{limit_s:g} s are over (--wait-s){_missing(engine, whole)}"
            raise MachinesError(f"{have}: {ended or over}")
        if now_s - said_s > SAY_AGAIN_S:
            said_s = now_s
            say(f"{have} so far (Ctrl-C ends the waiting){_missing(engine, whole)}")
        if door.turned_away > turned_away and now_s - turned_s > SAY_AGAIN_S:
            turned_away, turned_s = door.turned_away, now_s  # strangers don't fill the screen
            say(f"turned away: {turned_away} so far who didn't know the key")
        time.sleep(LOOK_S)
    return whole[:wanted]


def _missing(engine: Engine, whole: Sequence[Arrived]) -> str:
    missing = engine.missing({one.hello.called for one in whole})
    return f"; {missing}" if missing else ""


def _named(found: Sequence[Arrived]) -> list[Machine]:
    """Return the machines in the order of their names, each of its own."""
    hosts: Counter[str] = Counter()
    machines: list[Machine] = []
    for one in sorted(found, key=_order):
        name = safe_name(one.hello.facts.host)
        hosts[name] += 1
        if hosts[name] > 1:
            name = f"{name}~{hosts[name]}"
        machines.append(Machine(name, one.hello.facts, one.pipes))
    return machines


def _order(one: Arrived) -> tuple[str, int, str]:
    """Return what sorts machines: by host, those of one host by number (`10` behind `9`)."""
    called = one.hello.called
    return one.hello.facts.host, len(called), called


def safe_name(host: str) -> str:
    """Return a host's name as it goes into cells, screens and JSON: at most 40 plain characters."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", host)[:MOST_NAME] or "machine"


def some_machines(count: int) -> str:
    """Return a number of machines, for people."""
    return "1 machine" if count == 1 else f"{count} machines"
