"""The server process: sockets, event loop, signals, and several workers where one isn't enough."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from .answers import House, Pacing
from .api import Api
from .batching import EnginePacing
from .engine.engine import EngineConfig
from .faults import Fault
from .metrics import Metrics
from .pacing import ExactPacing
from .truth import TruthLog
from .wire.connection import Connection
from .wire.intake import Intake
from .wire.settings import SERVER, ExactPace, Settings

_BACKLOG = 4096
_TICK_S = 0.2  # how often truth is written down
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a server needs to run."""

    settings: Settings
    host: str
    port: int  # 0: any free one
    pace: ExactPace | EngineConfig  # exact mode, or an engine
    truth: Path | None
    faults: tuple[Fault, ...] = ()


def serve(plan: Plan) -> int:
    """Serve until a signal comes; return the exit status."""
    for fault in plan.faults:
        if fault.kind == "slow_ready":
            time.sleep(fault.value)  # a model that loads: nobody listens yet
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
    return _run_workers(plan, listeners)


def _describe(plan: Plan) -> str:
    faults = f", {len(plan.faults)} fault(s)" if plan.faults else ""
    pace = plan.pace
    if isinstance(pace, EngineConfig):
        cache = pace.num_gpu_blocks * pace.block_size
        return (
            f"engine: {pace.max_num_batched_tokens} tokens and {pace.max_num_seqs} sequences a"
            f" step, KV cache of {cache} tokens{faults}"
        )
    jitter = f" +/- {pace.jitter_ns / 1e6:g} ms" if pace.jitter_ns else ""
    return (
        f"exact mode: first token after {pace.ttft_ns / 1e6:g} ms, then one each"
        f" {pace.itl_ns / 1e6:g} ms{jitter}, {plan.settings.workers} worker(s){faults}"
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


def _run_workers(plan: Plan, listeners: list[socket.socket]) -> int:
    """Fork the workers, wait, and stop all of them when one ends or a signal comes."""
    children: set[int] = set()
    for listener in listeners:
        pid = os.fork()
        if pid == 0:
            for other in listeners:
                if other is not listener:
                    other.close()
            _run_worker(plan, listener)
            os._exit(0)
        children.add(pid)
    for listener in listeners:
        listener.close()

    def stop(*_: object) -> None:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    worst = 0
    while children:
        pid, status = os.wait()
        children.discard(pid)
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
    metrics = Metrics(plan.settings)
    truth = TruthLog(plan.truth)
    pacing = _pacing(plan, loop, metrics)
    metrics.read_engine = pacing.state
    api = Api(House(plan.settings, pacing, truth, metrics, plan.faults))
    stopped = asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    intake = Intake(loop)
    server = await loop.create_server(lambda: Connection(api, intake), sock=sock, backlog=_BACKLOG)
    # Nothing of what was loaded so far is ever garbage; what comes is looked at when idle.
    gc.freeze()
    gc.disable()
    swept = 0  # answers begun when garbage was last collected
    while not stopped.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), _TICK_S)
        truth.flush()
        if not metrics.load and metrics.begun != swept:
            gc.collect()
            swept = metrics.begun
    server.close()
    for answer in metrics.unfinished():
        answer.finish("server_stopped")
    truth.close()


def _pacing(plan: Plan, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> Pacing:
    if isinstance(plan.pace, EngineConfig):
        return EnginePacing(loop, plan.pace, metrics.step)
    return ExactPacing(loop, plan.pace, plan.settings.seed)
