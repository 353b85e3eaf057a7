"""The server process: sockets, event loop, signals, and several workers where one isn't enough."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from .answers import House, Pacing
from .api import Api
from .connection import Connection
from .metrics import Metrics
from .pacing import ExactPacing
from .settings import SERVER, ExactPace, Settings
from .truth import TruthLog

_BACKLOG = 4096
_TICK_S = 0.2  # how often truth is written down
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a server needs to run."""

    settings: Settings
    host: str
    port: int  # 0: any free one
    pace: ExactPace
    truth: Path | None


def serve(plan: Plan) -> int:
    """Serve until a signal comes; return the exit status."""
    if plan.truth is not None:
        plan.truth.write_bytes(b"")  # a run's truth starts with the run
    listeners = _listen(plan)
    host, port = listeners[0].getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(
        f"{SERVER}: {url}, {_describe(plan)}; a simulator: its figures say nothing about a GPU",
        file=sys.stderr,
    )
    print(url, flush=True)  # the sockets listen: whoever waits for this line may connect
    if len(listeners) == 1:
        _run_worker(plan, listeners[0])
        return 0
    return _run_workers([lambda sock=sock: _run_worker(plan, sock) for sock in listeners])


def _describe(plan: Plan) -> str:
    pace = plan.pace
    jitter = f" +/- {pace.jitter_ns / 1e6:g} ms" if pace.jitter_ns else ""
    return (
        f"exact mode: first token after {pace.ttft_ns / 1e6:g} ms, then one each"
        f" {pace.itl_ns / 1e6:g} ms{jitter}, {plan.settings.workers} worker(s)"
    )


def _listen(plan: Plan) -> list[socket.socket]:
    """Return a listening socket a worker, all on one port: the kernel deals out connections."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    listeners: list[socket.socket] = []
    port = plan.port
    for _ in range(plan.settings.workers):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if plan.settings.workers > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((plan.host, port))
        sock.listen(_BACKLOG)
        port = sock.getsockname()[1]
        listeners.append(sock)
    return listeners


def _run_workers(workers: list[Callable[[], None]]) -> int:
    """Fork the workers, wait, and stop all of them when one ends or a signal comes."""
    children: dict[int, None] = {}
    for run in workers:
        pid = os.fork()
        if pid == 0:
            run()
            os._exit(0)
        children[pid] = None

    def stop(*_: object) -> None:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    worst = 0
    while children:
        pid, status = os.wait()
        children.pop(pid)
        worst = max(worst, abs(os.waitstatus_to_exitcode(status)))
        stop()
    return worst


def _run_worker(plan: Plan, sock: socket.socket) -> None:
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(plan, sock))
    finally:
        loop.close()


async def _serve(plan: Plan, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    settings = plan.settings
    metrics = Metrics(settings.name, settings.max_model_len)
    pacing: Pacing = ExactPacing(loop, plan.pace, settings.seed)
    metrics.read_engine = pacing.state
    truth = TruthLog(plan.truth)
    house = House(settings, pacing, truth, metrics)
    api = Api(house)
    stopped = asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Connection(api), sock=sock, backlog=_BACKLOG)
    # Nothing of what was loaded so far is ever garbage; what comes is looked at when idle.
    gc.freeze()
    gc.disable()
    while not stopped.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), _TICK_S)
        truth.flush()
        if not metrics.load:
            gc.collect()
    server.close()
    for answer in metrics.unfinished():
        answer.finish("server_stopped")
    truth.close()
