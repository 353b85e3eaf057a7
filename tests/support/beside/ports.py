"""A port of one's own, whoever else asks the system for one meanwhile."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens, for a server that is told its port.

    It stays bound, without a listener, until this process ends: so the system gives it to nobody
    who asks for any port, and a server that names it gets it all the same (SO_REUSEADDR).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        holder.detach()
    return port
