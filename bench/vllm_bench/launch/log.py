"""A server's log: written without secrets, and its telling lines.

vLLM prints what it was started with, in old versions its keys too. So its output goes through a
thread here, and what reaches the disk is masked already. The thread always empties the pipe, even
when the disk is full or the log has its most bytes: a full pipe would stop the server.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..records.text import masked, printable
from ..scenario.secrets import MASK, is_secret_key

MOST_LINE = 20_000  # bytes that are masked together; a longer line is written in pieces
MOST_BYTES = 64 << 20  # of a log: uvicorn's line for each request of a long run
PIPE_BYTES = 1 << 20  # so that a pause of this process doesn't hold the server up
TAIL_BYTES = 256 << 10  # of a log that are searched for what went wrong
SHOWN_LINES = 10
LAST_WORDS_S = 5.0  # for what an ended server has said; its engine may hold the pipe
MOST_SHOWN = 500  # characters of a line that is shown
# name: value, name='value', 'name': ['value']: of keys that a file named by --config may hold.
NAMED = re.compile(
    r"(?P<name>(?:api_?key|hf_token|access_token|auth_token|password|secret)\w{0,40})['\"]?\s*[:=]\s*"
    r"(?P<value>\[[^\]]*\]?|'[^']*'?|\"[^\"]*\"?|[^\s,;)}\]]+)",
    re.IGNORECASE,
)
NOT_SECRET = {"None", "null", "True", "False", "", MASK}
PREFIX = re.compile(
    r"^(\x1b\[[\d;]*m|\([\w:. -]*pid=\d+\)|(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b"
    r"|\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?|\[[\w./]+:\d+\]|\s)+"
)
ERROR = re.compile(
    r"^([\w.]*(Error|Exception)\b|[\w. /-]*\berror:|Killed|Segmentation fault)", re.I
)
# What stands at the end of most failed starts, and says nothing of why.
HOLLOW = re.compile(r"Engine core initialization failed|EngineDeadError|See root cause above", re.I)


class MaskedLog:
    """Copies a process's output into a file, without secrets, until the output ends."""

    def __init__(self, path: Path, secrets: tuple[str, ...]) -> None:
        """Open the file. Raises OSError."""
        self._file = path.open("wb", buffering=0)
        self._secrets = secrets
        self._thread: threading.Thread | None = None

    def follow(self, output: IO[bytes]) -> None:
        """Begin to copy, in a thread."""
        with suppress(OSError, AttributeError):  # Linux before 2.6.35, or the user's pipes are full
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._copy, args=(output,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until all that was said is in the file: where nobody holds the pipe, at once."""
        if self._thread is None:
            self._file.close()
        else:
            self._thread.join(LAST_WORDS_S)

    def _copy(self, output: IO[bytes]) -> None:
        room = MOST_BYTES
        with output, self._file:
            while line := output.readline(MOST_LINE):
                data = without_secrets(line.decode(errors="replace"), self._secrets).encode()
                room -= len(data)
                with suppress(OSError):  # the disk is full: the pipe is emptied all the same
                    if room >= 0:
                        self._file.write(data)
                    elif room > -MOST_BYTES:
                        room = -MOST_BYTES
                        self._file.write(b"... the log has its most bytes: what follows is lost\n")


def without_secrets(line: str, secrets: tuple[str, ...]) -> str:
    """Return a line with *** for these texts, and for values whose names say that they are one."""
    return NAMED.sub(_hidden, masked(line, secrets))


def _hidden(found: re.Match[str]) -> str:
    value = found["value"]
    if not is_secret_key(found["name"]) or value.strip("[]'\"") in NOT_SECRET:
        return found[0]
    mask = MASK if value[0] not in "['\"" else f"'{MASK}'"  # the line remains a literal of Python
    return f"{found[0][: found.start('value') - found.start()]}{mask}"


def tail_of(log: Path) -> list[str]:
    """Return the last lines of a log, none where it can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


def last_lines(log: Path, secrets: tuple[str, ...] = ()) -> list[str]:
    """Return what to show of a log: the line that says what failed, then the last ones."""
    lines = tail_of(log)
    last = lines[-SHOWN_LINES:]
    telling = telling_line(lines)
    chosen = (
        [telling, *(line for line in last if not telling.startswith(bare(line)))] if lines else []
    )
    return [printable(without_secrets(line, secrets), MOST_SHOWN) for line in chosen]


def telling_line(lines: list[str]) -> str:
    """Return the last error among a log's lines, else its last line; without the prefix."""
    said = list(_with_reasons([words for line in lines if (words := bare(line))]))
    errors = [words for words in said if ERROR.match(words)]
    meant = [words for words in errors if not HOLLOW.search(words)]
    return next(reversed(meant or errors or said), "")


def _with_reasons(lines: list[str]) -> Iterator[str]:
    """Yield lines; behind pydantic's "1 validation error for X" what the error is."""
    for at, line in enumerate(lines):
        found = re.search(r"\d validation errors? for \w+$", line)
        below = lines[at + 1 : at + 3] if found else []
        last = next((n for n, other in enumerate(below, 1) if "[type=" in other), 0)
        yield ": ".join([line, *(other.partition(" [type=")[0] for other in below[:last])])


def bare(line: str) -> str:
    """Return a line of vLLM's log without process, level, time and place."""
    return PREFIX.sub("", line).strip()
