"""The kernel begins to stamp a moment after the first socket of the machine asks for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from vllm_bench.wire.clock import CONTROL_SPACE, ask_for_stamps

from tests.support.beside.waiting import LIMIT_S


@pytest.fixture(scope="session", autouse=True)
def _the_kernel_stamps() -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ask_for_stamps(sock)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(LIMIT_S)
        stamped = False
        while not stamped:
            sock.sendto(b"x", sock.getsockname())
            stamped = bool(sock.recvmsg(10, CONTROL_SPACE)[1])
        yield
