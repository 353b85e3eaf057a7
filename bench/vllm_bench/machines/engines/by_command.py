"""Commands of the user's (ssh, srun) that start a foreman, and end with it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ...interrupts import INTERRUPTS
from .engine import MachinesError, Reached
from .last_words import LastWords

LET_END_S = 2.0


@dataclass(frozen=True, slots=True)
class _Started:
    text: str
    process: subprocess.Popen[bytes]
    said: LastWords

    def signal(self, number: signal.Signals) -> None:
        """Tell it and what it started, as far as that stayed in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class ByCommand:
    """Commands of the user's (ssh, srun) start `sender.py`, and end with it."""

    def __init__(self, commands: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start them with these variables. Raises UsageError where one isn't a command."""
        self._commands = [(text, _words(text)) for text in commands]
        self._environ = environ
        self._started: list[_Started] = []

    def attach(self) -> Reached:
        """One machine of each command."""
        return Reached(len(self._commands))

    def start(self, address: str, key: bytes) -> None:
        """Run each with HOST:PORT/N at its end and the key on its standard input.

        Raises MachinesError.
        """
        for number, (text, words) in enumerate(self._commands):
            try:
                with INTERRUPTS.put_off():  # until it is known what to end
                    self._start([*words, f"{address}/{number}"], text, key)
            except OSError as e:
                raise MachinesError(f"--senders {text!r}: {e.strerror}") from e

    def _start(self, words: Sequence[str], text: str, key: bytes) -> None:
        process = subprocess.Popen(
            words,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is for the head alone
        )
        assert process.stdin is not None
        assert process.stderr is not None
        self._started.append(_Started(text, process, LastWords(process.stderr)))
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `ended` will tell
            process.stdin.write(key)
            process.stdin.close()

    def ended(self) -> str | None:
        """Return which command has ended, and its last words."""
        for one in self._started:
            code = one.process.poll()
            if code is not None:
                how = f"exit code {code}" if code >= 0 else f"signal {-code}"
                return f"--senders {one.text!r} ended with {how}: {one.said.at_end() or 'no word'}"
        return None

    def missing(self, came: Collection[str]) -> str | None:
        """Return the first command of which no foreman came, and its last words."""
        for number, one in enumerate(self._started):
            if str(number) not in came:
                return f"none from --senders {one.text!r}: {one.said.so_far() or 'no word'}"
        return None

    def stop(self) -> None:
        """Let the commands end, as they do with their connections; then ask, then kill them."""
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not self._wait(LET_END_S):
                    return
                self._signal(number)
        finally:
            self._signal(signal.SIGKILL)

    def _wait(self, limit_s: float) -> bool:
        """Wait for all of them, so long together; return whether some are left."""
        give_up_s = time.monotonic() + limit_s
        for one in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, give_up_s - time.monotonic()))
        return any(one.process.poll() is None for one in self._started)

    def _signal(self, number: signal.Signals) -> None:
        for one in self._started:
            if one.process.poll() is None:
                one.signal(number)
                if number == signal.SIGKILL:
                    one.process.wait()


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UsageError(f"--senders {text!r}: not a command: {e}") from e
    if not words:
        raise UsageError("--senders: it is empty")
    if shutil.which(words[0]) is None:
        raise UsageError(f"--senders {text!r}: {words[0]}: there is no such program here")
    return words
