"""Commands of the user's (ssh, srun) that start a foreman, and end with it."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from ...errors import UsageError
from ...records.text import printable
from .engine import MachinesError, Reached

LAST_LINES = 3
END_LIMIT_S = 5.0


class ByCommand:
    """Commands of the user's (ssh, srun) start `sender.py`, and end with it."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = [(text, _words(text)) for text in commands]
        self._started: list[tuple[str, subprocess.Popen[bytes], deque[str]]] = []

    def attach(self) -> Reached:
        """One machine of each command."""
        return Reached(len(self._commands))

    def start(self, address: tuple[str, int], key: bytes) -> None:
        """Run each with `HOST:PORT` at its end and the key on its standard input.

        Raises MachinesError.
        """
        host, port = address
        for text, words in self._commands:
            try:
                process = subprocess.Popen(
                    [*words, f"{host}:{port}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a terminal's Ctrl-C is for the head alone
                )
            except OSError as e:
                raise MachinesError(f"--senders {text!r}: {e.strerror}") from e
            said = deque[str](maxlen=LAST_LINES)
            self._started.append((text, process, said))
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(key.hex().encode() + b"\n")
            process.stdin.close()
            threading.Thread(target=_read_on, args=(process.stderr, said), daemon=True).start()

    def ended(self) -> str | None:
        """Return which command has ended, and its last words."""
        for text, process, said in self._started:
            code = process.poll()
            if code is not None:
                words = printable(" / ".join(said), 300)
                return f"--senders {text!r} ended with exit code {code}: {words or 'no word'}"
        return None

    def stop(self) -> None:
        """Let the commands end, as they do with their connections; kill those that don't."""
        for _, process, _ in self._started:
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UsageError(f"--senders {text!r}: not a command: {e}") from e
    if not words:
        raise UsageError("--senders: it is empty")
    return words


def _read_on(pipe: IO[bytes], said: deque[str]) -> None:
    for line in pipe:
        said.append(line.decode(errors="replace").strip())
