"""What is put between the client and the server, or beside them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

from ..simulator import simulator
from .proxy import BufferingProxy, InTurnProxy
from .situation import Beside, Stage


def buffering(most_bytes: int) -> Beside:
    """A proxy that keeps a stream back until it ended or has this many bytes."""

    @contextmanager
    def between(stage: Stage) -> Iterator[str]:
        with BufferingProxy(urlsplit(stage.base_url).port or 0, most_bytes) as port:
            yield f"http://127.0.0.1:{port}/v1"

    return between


def foreign(streams: int, tokens: int, pause_s: float = 0.0) -> Beside:
    """Another client: each of its streams asks for so many tokens, again and again."""
    work = partial(_ask_again_and_again, tokens=tokens, pause_s=pause_s)
    return lambda stage: _meanwhile(stage, work, streams)


def replicas() -> Beside:
    """A second server like the first, and a balancer before both: requests go in turn."""

    @contextmanager
    def between(stage: Stage) -> Iterator[str]:
        time.sleep(1.0)  # they tell by when they began
        own = str(stage.folder / "truth-2.jsonl")
        with simulator(*stage.flags, "--truth", own) as (other, _):
            ports = [urlsplit(url).port or 0 for url in (stage.base_url, other)]
            with InTurnProxy(ports) as port:
                yield f"http://127.0.0.1:{port}/v1"

    return between


def busy(processes: int) -> Beside:
    """Processes that want all of the core on which the client sends."""

    @contextmanager
    def beside(stage: Stage) -> Iterator[str]:
        with ExitStack() as ends:
            for _ in range(processes):
                found = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                ends.callback(found.wait)
                ends.callback(found.kill)
                os.sched_setaffinity(found.pid, {stage.client_core})
            yield stage.base_url

    return beside


def restarted(after_s: float) -> Beside:
    """The server ends after a while, and starts again: its counters begin at 0."""
    return lambda stage: _meanwhile(stage, partial(_restart, after_s=after_s))


@contextmanager
def _meanwhile(
    stage: Stage, work: Callable[[Stage, threading.Event], None], threads: int = 1
) -> Iterator[str]:
    """Work in threads until the block ends, which they are told by an event."""
    over = threading.Event()
    begun = [threading.Thread(target=work, args=(stage, over), daemon=True) for _ in range(threads)]
    for thread in begun:
        thread.start()
    try:
        yield stage.base_url
    finally:
        over.set()
        for thread in begun:
            thread.join()


def _restart(stage: Stage, over: threading.Event, after_s: float) -> None:
    if over.wait(after_s):
        return
    os.kill(stage.pid, signal.SIGTERM)
    port = urlsplit(stage.base_url).port or 0
    again = str(stage.folder / "truth-2.jsonl")
    with socket.socket() as held:  # so that meanwhile nobody else gets the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while not _bound(held, port):
            time.sleep(0.05)
        with simulator(*stage.flags, "--port", str(port), "--truth", again):
            over.wait()


def _bound(sock: socket.socket, port: int) -> bool:
    """Bind a socket where nobody listens, as a server can that sets the same option."""
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _ask_again_and_again(stage: Stage, over: threading.Event, tokens: int, pause_s: float) -> None:
    ask = {"prompt": "tell me", "max_tokens": tokens, "ignore_eos": True}
    headers = {"Content-Type": "application/json"}
    connection = http.client.HTTPConnection(urlsplit(stage.base_url).netloc)
    # The server may end first: there is nothing left to ask then.
    with suppress(OSError, http.client.HTTPException):
        while not over.wait(pause_s):
            connection.request("POST", "/v1/completions", json.dumps(ask), headers)
            connection.getresponse().read()
    connection.close()
