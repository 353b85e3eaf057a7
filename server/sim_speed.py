"""How many events a second the simulator sends on time, by its own truth file.

    python server/sim_speed.py
    python server/sim_speed.py --streams 500 1000 --itl-ms 20 --workers 2 --seconds 10

For each number of streams it starts server/simulator.py in exact mode, keeps that
many streams open with a reader that parses nothing, and holds the server's own
stamps against the deadlines that it had. Where there are several cores, server and
reader each keep to their own. Prints one row for each number of streams. `machine ms`
is the longest time for which a process that only spins was kept from running, in the
two seconds before: what the machine itself takes, no server can give back.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIMULATOR = Path(__file__).with_name("simulator.py")
TTFT_MS = 50.0
TOKENS = 100
END = b"0\r\n\r\n"  # of a chunked body


@dataclass(frozen=True, slots=True)
class Row:
    """What one level of load came to."""

    streams: int
    requests: int
    events_per_s: float
    offered_per_s: float
    late_ms: tuple[float, float, float]  # p50, p99, max over all events in the window
    server_cpu: float  # cores
    machine_ms: float  # the longest pause of a process that only spins, before the run


def main() -> None:
    """Measure each level and print the table."""
    args = _arguments()
    columns = "streams  requests  events/s  offered/s  late p50 ms  p99 ms  max ms  server cores"
    print(f"{columns}  machine ms")
    for streams in args.streams:
        row = measure(streams, args.itl_ms, args.workers, args.seconds)
        p50, p99, worst = row.late_ms
        print(
            f"{row.streams:7}  {row.requests:8}  {row.events_per_s:8.0f}  {row.offered_per_s:9.0f}"
            f"  {p50:11.3f}  {p99:6.3f}  {worst:6.2f}  {row.server_cpu:12.2f}"
            f"  {row.machine_ms:10.2f}",
            flush=True,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 250, 500, 600])
    parser.add_argument("--itl-ms", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0)
    return parser.parse_args()


def measure(streams: int, itl_ms: float, workers: int, seconds: float) -> Row:
    """Run one level against a server of its own."""
    cores = sorted(os.sched_getaffinity(0))
    stream_s = (TTFT_MS + (TOKENS - 1) * itl_ms) / 1e3
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.jsonl"
        machine_ms = _longest_pause_ms(cores[0], 2.0)
        server, port = _start(truth, itl_ms, workers, cores[: max(1, len(cores) - 1)])
        try:
            os.sched_setaffinity(0, cores[-1:])
            started_s = time.perf_counter()
            window_ns = load(port, streams, stream_s, seconds)
            up_s = time.perf_counter() - started_s
        finally:
            os.sched_setaffinity(0, cores)
            server.send_signal(signal.SIGTERM)
            cpu_s = _wait(server)
        records = [json.loads(line) for line in truth.read_text().splitlines()]
    late = sorted(_lateness(records, itl_ms, window_ns))
    window_s = (window_ns[1] - window_ns[0]) / 1e9
    return Row(
        streams,
        len(records),
        len(late) / window_s,
        streams * TOKENS / stream_s,
        (late[len(late) // 2], late[int(len(late) * 0.99)], late[-1]),
        cpu_s / up_s,
        machine_ms,
    )


def _longest_pause_ms(core: int, seconds: float) -> float:
    """Spin on a core; return the longest time for which it didn't turn."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    longest_s = 0.0
    last_s = time.perf_counter()
    end_s = last_s + seconds
    while last_s < end_s:
        now_s = time.perf_counter()
        longest_s = max(longest_s, now_s - last_s)
        last_s = now_s
    os.sched_setaffinity(0, before)
    return longest_s * 1e3


def _start(
    truth: Path, itl_ms: float, workers: int, cores: list[int]
) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, str(SIMULATOR), "--port", "0", "--exact", "--truth", str(truth)]
    command += ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(itl_ms), "--workers", str(workers)]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no threads here
    )
    assert server.stdout is not None
    return server, int(server.stdout.readline().rpartition(":")[2])


def _wait(server: subprocess.Popen[str]) -> float:
    """Wait for the server's end; return its CPU time in seconds, its workers' included."""
    _, _, usage = os.wait4(server.pid, 0)
    server.returncode = 0  # it has been waited for
    return usage.ru_utime + usage.ru_stime


def load(port: int, streams: int, stream_s: float, seconds: float) -> tuple[int, int]:
    """Keep streams open, each with a next request after its last; return begin and end in ns."""
    body = json.dumps(
        {"prompt": "how fast", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    poll = selectors.DefaultSelector()
    sockets = []
    for _ in range(streams):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock, selectors.EVENT_READ, sock)
        sockets.append(sock)
    # One after the other over the length of a stream: begins and ends come at all times, as
    # under any steady load, and not in waves.
    gap_s = stream_s / streams
    began_s = time.perf_counter()
    for place, sock in enumerate(sockets):
        sock.send(request)
        _read(poll, request, began_s + (place + 1) * gap_s)
    began_ns = time.perf_counter_ns()
    _read(poll, request, time.perf_counter() + seconds)
    ended_ns = time.perf_counter_ns()
    for sock in sockets:
        sock.close()
    poll.close()
    return began_ns, ended_ns


def _read(poll: selectors.BaseSelector, request: bytes, until_s: float) -> None:
    while (left_s := until_s - time.perf_counter()) > 0:
        for key, _ in poll.select(left_s):
            if key.data.recv(65536).endswith(END):
                key.data.send(request)


def _lateness(
    records: list[dict[str, Any]], itl_ms: float, window_ns: tuple[int, int]
) -> list[float]:
    """Return how late each event in the window was, in ms."""
    late = []
    for record in records:
        due_ns = record["t_received_ns"] + TTFT_MS * 1e6
        for place, sent_ns in enumerate(record["t_sent_ns"]):
            if window_ns[0] <= sent_ns < window_ns[1]:
                late.append((sent_ns - due_ns - place * itl_ms * 1e6) / 1e6)
    return late


if __name__ == "__main__":
    main()
