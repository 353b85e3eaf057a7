"""The truth file: one JSON line per request, with the real times of everything.

    {"request_id": "a1", "endpoint": "chat", "t_received_ns": 71, "t_sent_ns": [121, 141],
     "tokens": [1, 1], "prompt_tokens": 15, "completion_tokens": 2,
     "finish_reason": "length", "t_end_ns": 142, "outcome": "ok", "reasoning_tokens": 0}

All stamps are time.perf_counter_ns(), which on Linux is CLOCK_MONOTONIC: the same
for every process of a machine, so that a client's stamps can be compared with these.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True)
class TruthRecord:
    """One request as the server saw it."""

    request_id: str  # the X-Request-Id header, else made by the server
    endpoint: str  # chat, completions or responses
    t_received_ns: int  # the read that brought the request's last byte
    t_sent_ns: list[int]  # just before each token chunk was handed to the socket
    tokens: list[int]  # tokens in each of those chunks
    prompt_tokens: int
    completion_tokens: int  # tokens that were generated, sent or not
    finish_reason: str | None  # of the first choice; None when it never finished
    t_end_ns: int  # after the last byte was handed to the socket
    outcome: str  # ok, client_gone, http_<status>, server_stopped, or the fault played
    reasoning_tokens: int = 0  # the first ones of the first choice; an answer's follow them


def refused(request_id: str, endpoint: str, t_received_ns: int, status: int) -> TruthRecord:
    """Return the record of a request that was answered with an error at once."""
    now_ns = time.perf_counter_ns()
    return TruthRecord(
        request_id, endpoint, t_received_ns, [], [], 0, 0, None, now_ns, f"http_{status}"
    )


class TruthLog:
    """Keeps records in memory until they are flushed, so that no write delays an answer."""

    def __init__(self, path: Path | None) -> None:
        """Append to a file; without one, keep nothing."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = None if path is None else os.open(path, flags, 0o644)
        self._waiting: list[TruthRecord] = []

    def add(self, record: TruthRecord) -> None:
        if self._file is not None:
            self._waiting.append(record)

    def flush(self) -> None:
        """Write the waiting records."""
        if self._file is None or not self._waiting:
            return
        lines = b"".join(orjson.dumps(record) + b"\n" for record in self._waiting)
        self._waiting.clear()
        while lines:  # a write may write only a part
            lines = lines[os.write(self._file, lines) :]

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None
