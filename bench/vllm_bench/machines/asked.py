"""The machines that a script's flags ask for: started, gathered, and found to fit together."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

from ..errors import UsageError
from .door import Came, Door, key_of, open_door
from .engines.by_command import ByCommand
from .engines.by_ray import ByRay
from .engines.engine import ByHand, Engine, MachinesError
from .facts import machine_facts
from .fleet import Fleet, Machine
from .messages import Kind, MachineFacts

SAY_AGAIN_S = 10.0
LEAST_KEY = 16  # bytes


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
        count = asked.machines or reached.count
        host, port = _listen_at(asked.listen, reached.host)
        with _opened(host, port, key) as door:
            engine.start(door.address, key)
            say(f"waiting for {count} machines at {door.address[0]}:{door.address[1]}")
            machines += _gathered(door, engine, count, limit_s, say)
        _check(machines)
        say("; ".join(f"{m.name}: {m.facts.cores} cores" for m in machines))
        yield Fleet(machines, asked.workers, rows_stay=asked.keep_rows_remote)
    finally:
        for machine in machines:
            machine.lose("was let go")
        engine.stop()


def _engine(asked: Asked) -> Engine | None:
    """Return what starts the machines; None: nothing asks for any. Raises UsageError."""
    if asked.senders and asked.ray:
        raise UsageError("--senders and --ray: one of both starts the machines")
    if asked.senders:
        return ByCommand(asked.senders)
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
        if getattr(asked, name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: for several machines alone: --senders, --ray")
    return None


def _listen_at(text: str | None, reached: str | None) -> tuple[str, int]:
    host, _, port = (text or "").partition(":")
    if port and not (port.isdigit() and int(port) < 65536):
        raise UsageError(f"--listen {text}: not HOST or HOST:PORT")
    return host or reached or _own_address(), int(port or 0)


def _own_address() -> str:
    """Return the address under which others reach this machine: of its way out, if there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; a datagram socket sends nothing
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


def _key(path: Path | None) -> bytes:
    if path is None:
        return secrets.token_bytes(32)
    try:
        found = key_of(path.read_bytes())
    except OSError as e:
        raise UsageError(f"--key-file {path}: {e.strerror}") from e
    if len(found) < LEAST_KEY:
        raise UsageError(f"--key-file {path}: a key has at least {LEAST_KEY} bytes")
    return found


@contextlib.contextmanager
def _opened(host: str, port: int, key: bytes) -> Iterator[Door]:
    try:
        with open_door(host, port, key) as door:
            yield door
    except OSError as e:
        raise MachinesError(f"--listen {host}:{port}: {e.strerror or e}") from e


def _gathered(
    door: Door, engine: Engine, count: int, limit_s: float, say: Callable[[str], None]
) -> list[Machine]:
    """Return the machines, once all three connections of each are there, by host name."""
    came: dict[str, dict[Kind, Came]] = {}
    begin_s = said_s = time.monotonic()
    while sum(len(one) == 3 for one in came.values()) < count:
        try:
            hello, pipe = door.came.get(timeout=0.2)
            came.setdefault(hello.foreman, {})[hello.kind] = hello, pipe
        except Empty:
            pass
        ended, now_s = engine.ended(), time.monotonic()
        if ended or now_s - begin_s > limit_s:
            why = ended or f"{limit_s:g} s are over"
            raise MachinesError(f"{len(came)} of {count} machines have come: {why}")
        if now_s - said_s > SAY_AGAIN_S:
            said_s = now_s
            say(f"{len(came)} of {count} machines have come (Ctrl-C ends the waiting)")
    whole = [one for one in came.values() if len(one) == 3]
    return _named([(one["orders"][0].facts, one) for one in whole])


def _named(found: list[tuple[MachineFacts, dict[Kind, Came]]]) -> list[Machine]:
    hosts: Counter[str] = Counter()
    machines: list[Machine] = []
    for facts, came in sorted(found, key=lambda one: (one[0].host, one[1]["orders"][0].foreman)):
        hosts[facts.host] += 1
        name = facts.host if hosts[facts.host] == 1 else f"{facts.host}~{hosts[facts.host]}"
        machines.append(Machine(name, facts, {kind: pipe for kind, (_, pipe) in came.items()}))
    return machines


def _check(machines: list[Machine]) -> None:
    """Refuse machines that would understand another thing by the same words."""
    ours = machine_facts()
    for machine in machines:
        facts = machine.facts
        if facts.code != ours.code:
            raise MachinesError(
                f"{machine.name} has another version of this project's code: bring both to the same"
            )
        if facts.python.rsplit(".", 1)[0] != ours.python.rsplit(".", 1)[0]:
            raise MachinesError(f"{machine.name} has Python {facts.python}, here is {ours.python}")
