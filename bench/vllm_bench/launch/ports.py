"""Who listens on a port, and who belongs to a session: as far as /proc tells."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"
ALL = ("0.0.0.0", "::")  # noqa: S104 - asked for, never served on


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there; an empty host means all addresses.

    An address that can't be had for another reason counts as free: the server will say why.
    """
    return all(_can_bind(address, port) for address in (_addresses(host) if host else ALL))


def _addresses(host: str) -> set[str]:
    """Return all that a name means: clients may take either of localhost's two."""
    with suppress(OSError, UnicodeError):
        return {str(a[0]) for *_, a in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)}
    return set()


def _can_bind(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections that ended a minute ago don't count, but a listening socket does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            probe.listen(1)
    except OSError as e:
        return e.errno != errno.EADDRINUSE
    return True


def sockets_on(port: int) -> set[str] | None:
    """Return the sockets that listen on a port, by inode; None where /proc doesn't tell."""
    found: set[str] | None = None
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            lines = (PROC / "self" / "net" / table).read_text(encoding="ascii").splitlines()[1:]
            rows = [line.split() for line in lines]
            of_port = [row for row in rows if int(row[1].rpartition(":")[2], 16) == port]
            found = (found or set()) | {row[9] for row in of_port if row[3] == LISTENING}
    return found


def holds(pid: int, sockets: set[str]) -> bool | None:
    """Whether a process has one of these sockets; None where that isn't readable."""
    try:
        descriptors = list((PROC / str(pid) / "fd").iterdir())
    except FileNotFoundError:
        return False  # it has ended
    except OSError:
        return None
    return any(_inode(descriptor) in sockets for descriptor in descriptors)


def _inode(descriptor: Path) -> str:
    with suppress(OSError):
        return str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")
    return ""


def holder_of(port: int) -> str | None:
    """Return `process 12 (vllm)` for who listens on a port; None where nobody can tell."""
    sockets = sockets_on(port)
    for pid in _all_pids() if sockets else ():
        if sockets and holds(pid, sockets):
            with suppress(OSError):
                name = (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace")
                return f"process {pid} ({name.strip()})"
    return None


def members(session: int) -> list[int]:
    """Return the living processes of a session or a process group, without those that ended."""
    return [pid for pid in _all_pids() if session in _groups(pid)]


def _all_pids() -> Iterator[int]:
    with suppress(OSError):
        yield from sorted(int(p.name) for p in PROC.iterdir() if p.name.isdecimal())


def _groups(pid: int) -> tuple[int, ...]:
    """Return a living process's group and session; nothing of one that has ended (a zombie)."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    state, _, group, session = text.rpartition(")")[2].split()[:4]  # a name may have blanks
    return () if state in "ZX" else (int(group), int(session))
