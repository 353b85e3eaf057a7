"""Sends prepared replies at a set pace: a source for finding how many events a client can take.

    python server/source.py --processes 2 --itl-ms 20 --tokens 100 --record source.jsonl

Every reply is the same bytes, made before the first request, in the simulator's format. A request's
tokens are due one --itl-ms after another from the moment it was read. Prints its URL on one line
once it listens, and serves until Ctrl-C or SIGTERM; then each process writes one line to --record:
how many events it sent, and how late (us). There is no engine, no /metrics and no /tokenize.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P
sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

from vllm_bench.flags import number, whole
from vllm_bench.script import complain, parser_of, without

try:
    import orjson
    from sim.wire.bodies import models, usage
    from sim.wire.connection import LAST_CHUNK, http_chunk
    from sim.wire.events import Events
    from sim.wire.generation import CHAT, Identity, read_request
    from sim.wire.replies import make_replies
    from sim.wire.settings import Settings
except ModuleNotFoundError as e:
    sys.exit(without(e))

NAP_S = 0.0005  # at most between two looks at the sockets while something is due
IDLE_S = 0.2  # the same while nothing is
SIGNALS = (signal.SIGINT, signal.SIGTERM)
BATCH = 64  # events between two looks at the sockets
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def prepared(model: str, tokens: int) -> list[bytes]:
    """Return the writes of a reply: one for each token, the last one with the reply's end."""
    settings = Settings(model, (model,))
    asked = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": tokens}
    options = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    ask = read_request(CHAT, asked | options, settings)
    (reply,) = make_replies(ask, settings)
    events = Events(ask, Identity("chatcmpl-prepared", int(time.time()), "vllm-prepared"))
    writes = [http_chunk(events.tokens(0, reply, at, at + 1)) for at in range(tokens)]
    opening = events.opening(0)
    assert opening is not None  # a chat has one
    writes[0] = http_chunk(opening) + writes[0]
    end = events.ending(usage(ask, tokens, None, None))
    writes[-1] += b"".join(map(http_chunk, end)) + LAST_CHUNK
    return writes


class Stream:
    """One connection: bytes of a request so far, and the place in its reply."""

    __slots__ = ("asked", "place", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked = b""
        self.place = 0

    def request(self) -> bytes | None:
        """Return the first line of a request that is complete."""
        head, found, body = self.asked.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if not found or len(body) < int(length or 0):
            return None
        self.asked = b""
        return head.split(b"\r\n")[0]


class Source:
    """One process: its sockets, what is due on them, and how late it was."""

    def __init__(self, listener: socket.socket, writes: list[bytes], model: str, itl_s: float):
        self._listener = listener
        self._writes = writes
        self._model = model
        self._itl_ns = round(itl_s * 1e9)
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._streams: dict[int, Stream] = {}
        # First tokens are due after one gap too, so that whatever is added is due last.
        self._due: deque[tuple[int, Stream]] = deque()
        self._late_us = array("I")
        self.stopped = False

    def serve(self) -> None:
        """Send what is due and read what comes, until it is stopped, or alone."""
        parent = os.getppid()
        while not self.stopped:
            self._send(time.perf_counter_ns())
            if not self._due and os.getppid() != parent:
                return  # killed: nobody would stop this process
            self._nap()
            for fd, _ in self._epoll.poll(0 if self._due else IDLE_S):
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._read(self._streams[fd])

    def _nap(self) -> None:
        """Wait for what is due next; epoll's own waiting is in whole milliseconds."""
        wait_ns = self._due[0][0] - time.perf_counter_ns() if self._due else 0
        if wait_ns > 0:
            time.sleep(min(wait_ns / 1e9, NAP_S))

    def _send(self, now_ns: int) -> None:
        due, writes, itl_ns, late_us = self._due, self._writes, self._itl_ns, self._late_us
        for _ in range(BATCH):
            if not due or due[0][0] > now_ns:
                return
            due_ns, stream = due.popleft()
            now_ns = time.perf_counter_ns()
            try:
                stream.sock.send(writes[stream.place])
            except OSError:  # the client left, or hasn't read for long: it gets no more
                self._close(stream)
                continue
            late_us.append((now_ns - due_ns) // 1000)
            stream.place += 1
            if stream.place < len(writes):
                due.append((due_ns + itl_ns, stream))

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams[sock.fileno()] = Stream(sock)
            self._epoll.register(sock, select.EPOLLIN)

    def _read(self, stream: Stream) -> None:
        try:
            data = stream.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(stream)
            return
        stream.asked += data
        line = stream.request()
        if line is not None:
            self._answer(stream, line)

    def _answer(self, stream: Stream, line: bytes) -> None:
        if line.startswith(b"POST /v1/chat/completions"):
            stream.place = 0
            stream.sock.send(HEAD)
            self._due.append((time.perf_counter_ns() + self._itl_ns, stream))
        elif line.startswith(b"GET /v1/models"):
            listed = models(Settings(self._model, (self._model,)), int(time.time()))
            self._put(stream, b"200 OK", orjson.dumps(listed))
        elif line.startswith(b"GET /health"):
            self._put(stream, b"200 OK", b"")
        else:
            self._put(stream, b"404 Not Found", b"")

    def _put(self, stream: Stream, status: bytes, body: bytes) -> None:
        kind = b"content-type: application/json"
        head = b"HTTP/1.1 %b\r\n%b\r\ncontent-length: %d\r\n\r\n" % (status, kind, len(body))
        stream.sock.send(head + body)

    def _close(self, stream: Stream) -> None:
        if self._streams.pop(stream.sock.fileno(), None) is not None:
            stream.sock.close()

    def record(self) -> dict[str, float]:
        """Return how many events were sent, and how late (us); and how many too late.

        An event that is a whole gap late follows the one before it at once. If a client reads both
        together, that is the source's doing.
        """
        late = sorted(self._late_us)
        at = [late[round(q * (len(late) - 1))] if late else 0 for q in (0.5, 0.99, 1)]
        bunched = sum(1000 * us >= self._itl_ns for us in late)
        names = ("late_p50_us", "late_p99_us", "late_max_us")
        return {"events": len(late), **dict(zip(names, at, strict=True)), "bunched": bunched}


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # shared by the processes
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        yield sock


def _hear(stop: Callable[..., None]) -> None:
    """Answer the signals that ask for the end, those too that have come meanwhile."""
    for signum in SIGNALS:
        signal.signal(signum, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _run(args: argparse.Namespace, listener: socket.socket) -> None:
    """Serve in this process, and write its record."""
    source = Source(listener, prepared(args.model, args.tokens), args.model, args.itl_ms / 1000)

    def stop(*_: object) -> None:
        source.stopped = True

    _hear(stop)
    gc.freeze()
    gc.disable()
    source.serve()
    if args.record is not None:
        line = orjson.dumps(source.record()) + b"\n"
        file = os.open(args.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, line)
        os.close(file)


def main() -> int:
    """Start the processes; they share a port, over which the kernel spreads connections."""
    args = _parse()
    try:
        return _serve(args)
    except OSError as e:
        return complain(f"cannot serve on 127.0.0.1:{args.port}: {e.strerror}", 2)


def _parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--port", type=whole(0, 65535), default=0, help="0 takes a free one (default 0)")
    add("--processes", type=whole(1, 64), default=1, metavar="N")
    add("--model", default="prepared")
    add("--tokens", type=whole(2, 100_000), default=100, metavar="N")
    gap = number(0, 1_000_000, of="milliseconds", above=True)
    add("--itl-ms", type=gap, default=20.0, metavar="MS")
    add("--record", type=Path, metavar="FILE", help="JSON lines, one per process")
    return parser.parse_args()


def _serve(args: argparse.Namespace) -> int:
    children = []
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until each process can answer them
    with _listening(args.port) as held:  # it never listens: it keeps the port's number
        port = held.getsockname()[1]
        # All listen before one accepts: connections to one that began later would be refused.
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(_listening(port)) for _ in range(args.processes)]
            for listener in listeners:
                listener.listen(4096)
            for listener in listeners:
                child = os.fork()
                if child == 0:
                    _run(args, listener)
                    os._exit(0)
                children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    _hear(stop)
    print(f"http://127.0.0.1:{port}", flush=True)
    for child in children:
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
