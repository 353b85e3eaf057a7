"""The server process: its socket, event loop and signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from .answers import Server
from .api import Api
from .beyond import Beyond
from .choice import Pacing
from .engine.engine import EngineConfig
from .faults import Fault
from .metrics import Metrics
from .pacing import EnginePacing, ExactPacing, Pauses
from .told import log_lines, server_info
from .truth import TruthLog
from .wire.connection import Connection, Intake
from .wire.settings import SERVER, ExactPace, Settings

_BACKLOG = 4096
_TICK_S = 0.2  # how often the truth file is written


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a server."""

    settings: Settings
    host: str
    port: int  # 0: any free one
    pace: ExactPace | EngineConfig  # exact mode, or an engine
    truth: Path | None
    faults: tuple[Fault, ...] = ()
    passed: Mapping[str, object] = field(default_factory=dict)  # flags with another value
    dev_mode: bool = False  # it answers /server_info
    beyond: Beyond = field(default_factory=Beyond)


def serve(plan: Plan) -> None:
    """Serve until a signal comes. Raises OSError where the address isn't available."""
    for fault in plan.faults:
        if fault.kind == "slow_ready":
            time.sleep(fault.value)  # a model that loads: no socket yet
    listener = _listen(plan)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(
        f"{SERVER}: {url}, {_describe(plan)}; a simulator: its figures say nothing about a GPU",
        file=sys.stderr,
    )
    if isinstance(plan.pace, EngineConfig):
        for line in log_lines(plan.settings, plan.pace, plan.passed):
            print(line, file=sys.stderr)
    uvloop.run(_serve(plan, listener, url))


def _describe(plan: Plan) -> str:
    faults = f", {len(plan.faults)} fault(s)" if plan.faults else ""
    pace = plan.pace
    if isinstance(pace, EngineConfig):
        cache = pace.num_gpu_blocks * pace.block_size
        return (
            f"engine: {pace.max_num_batched_tokens} tokens and {pace.max_num_seqs} sequences per"
            f" step, KV cache of {cache} tokens{faults}"
        )
    jitter = f" +/- {pace.jitter_ns / 1e6:g} ms" if pace.jitter_ns else ""
    return (
        f"exact mode: first token after {pace.ttft_ns / 1e6:g} ms, then one every"
        f" {pace.itl_ns / 1e6:g} ms{jitter}{faults}"
    )


def _listen(plan: Plan) -> socket.socket:
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((plan.host, plan.port))
    sock.listen(_BACKLOG)
    return sock


async def _serve(plan: Plan, sock: socket.socket, url: str) -> None:
    loop = asyncio.get_running_loop()
    truth = TruthLog(plan.truth)
    pacing = _pacing(plan, loop)
    metrics = Metrics(plan.settings, pacing.state, _beyond(plan))
    server = Server(plan.settings, pacing, truth, metrics, plan.faults)
    engine = plan.pace if isinstance(plan.pace, EngineConfig) else None
    info = server_info(plan.settings, engine, plan.passed) if plan.dev_mode else None
    api = Api(server, info)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    print(url, flush=True)  # whoever waits for this line may connect, and end the server
    intake = Intake(loop)
    listening = await loop.create_server(
        lambda: Connection(api.handle, intake), sock=sock, backlog=_BACKLOG
    )
    # What was loaded so far is never garbage; new garbage is collected when idle.
    gc.freeze()
    gc.disable()
    swept = 0  # requests at the last garbage collection
    while not stopped.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), _TICK_S)
        truth.flush()
        if not server.live and api.requests != swept:
            gc.collect()
            swept = api.requests
    listening.close()
    for answer in list(server.live):
        answer.finish("server_stopped")
    truth.close()


def _beyond(plan: Plan) -> Beyond:
    values = {fault.kind: fault.value for fault in plan.faults}
    return replace(
        plan.beyond, idle="idle_engine" in values, transferred=round(values.get("transferred", 0))
    )


def _pacing(plan: Plan, loop: asyncio.AbstractEventLoop) -> Pacing:
    pauses = Pauses(max((f.value for f in plan.faults if f.kind == "stand_still"), default=0.0))
    if isinstance(plan.pace, EngineConfig):
        return EnginePacing(loop, plan.pace, pauses)
    return ExactPacing(loop, plan.pace, plan.settings.seed, pauses)
