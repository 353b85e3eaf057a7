"""The file of a run's rows on the machine that sent it: lines of JSON, appended as requests end.

The first line says which run and which machine; then come requests, and now and then how the
machine's clock stands to the head's, of which the last counts. Each line is written whole or taken
back, so what a kill cuts off is the end of the last one.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...crew.judged import Judged
from ...records.safe_file import lock, new_file, unlocked
from ..messages import Correction
from .folder import refuse_others
from .line import DAMAGED, as_line, judged, line_of, made, mapping

END = ".jsonl"
MOST_LINE = 64_000_000  # bytes; a reply of a million reads has 20 million
UNDER_WAY_S = 5.0  # for a foreman whose head has died to write its last rows
POLL_S = 0.05


class KeptFile:
    """Appends what ends of one run; made with the first of it."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        machine: str,
        secrets: tuple[str, ...],
        session: str = "",
    ) -> None:
        self.path = folder / _name(run_id, machine, session)
        self._head = {"run_id": run_id, "machine": machine, "session": session}
        self._secrets = secrets
        self._fd: int | None = None
        self._correction: Correction | None = None

    def write(self, ended: Sequence[Judged]) -> None:
        """Append requests: all of them, or none. Raises OSError."""
        if ended:
            self._append(b"".join(line_of(one, self._secrets) for one in ended))

    def correct(self, correction: Correction) -> None:
        """Note how the clocks stand. Raises OSError."""
        self._correction = correction
        if self._fd is not None:
            self._append(_clock_line(correction))

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            self._fd = new_file(self.path, os.O_APPEND)
            os.fchmod(self._fd, 0o600)
            lock(self._fd)
            known = _clock_line(self._correction) if self._correction else b""
            data = as_line(self._head) + known + data
        whole = os.fstat(self._fd).st_size
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as e:
            os.ftruncate(self._fd, whole)
            if not whole:  # of no run: nobody would fetch it, or remove it
                self.path.unlink()
            raise OSError(e.errno, e.strerror, str(self.path)) from e

    def close(self) -> None:
        """Append no more."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _clock_line(correction: Correction) -> bytes:
    return as_line({"clock": dataclasses.asdict(correction)})


def _name(run_id: str, machine: str, session: str) -> str:
    """Return a file's name for people; the checksum tells those apart that look alike."""
    digest = hashlib.sha256(f"{run_id}\0{machine}\0{session}".encode()).hexdigest()[:8]
    words = [re.sub(r"[^A-Za-z0-9._-]", "_", text)[:100] for text in (run_id, machine)]
    return f"{'@'.join(words)}.{digest}{END}"


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A file that is there, by its first line."""

    path: Path
    run_id: str
    machine: str
    session: str

    def correction(self) -> Correction | None:
        """Return the last that is known of the clocks. Raises OSError."""
        found = None
        for line in self._lines():
            if line.startswith(b'{"clock"'):
                with suppress(*DAMAGED):
                    found = made(Correction, mapping(line)["clock"])
        return found

    def requests(self) -> Iterator[Judged]:
        """Yield the requests; one that was cut off is left out.

        Raises OSError, ValueError where a line is damaged: what is behind it can't be told.
        """
        for number, line in enumerate(self._lines(), 1):
            try:
                found = mapping(line)
                one = judged(found) if "role" in found else None
            except DAMAGED as e:
                raise ValueError(f"line {number} is damaged: {e}") from e
            if one is not None:
                yield one

    def at_rest(self) -> bool:
        """Wait until nobody writes it any more, within a limit; False: somebody does."""
        give_up_s = time.monotonic() + UNDER_WAY_S
        while True:
            with unlocked(self.path) as free:
                if free or time.monotonic() > give_up_s:
                    return free
            time.sleep(POLL_S)

    def _lines(self) -> Iterator[bytes]:
        with _opened(self.path) as file:
            while (line := file.readline(MOST_LINE)).endswith(b"\n"):
                yield line
            if len(line) == MOST_LINE:
                raise OSError(errno.EFBIG, "a line is longer than any can be", str(self.path))


def _opened(path: Path) -> BinaryIO:
    """Open a file of this user's alone. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        refuse_others(path, os.fstat(descriptor), stat.S_ISREG)
    except BaseException:
        file.close()
        raise
    return file


def runs_in(folder: Path) -> list[KeptRun]:
    """Return what is kept in a folder; files that can't be read, or are none of ours, are not."""
    found = (_kept(path) for path in sorted(folder.glob(f"*{END}")))
    return [run for run in found if run is not None]


def _kept(path: Path) -> KeptRun | None:
    try:
        with _opened(path) as file:
            line = file.readline(MOST_LINE)
        head: dict[str, Any] = mapping(line) if line.endswith(b"\n") else {}
    except (OSError, *DAMAGED):
        return None
    said = [head.get(name) for name in ("run_id", "machine", "session")]
    texts = [text for text in said if isinstance(text, str)]
    return KeptRun(path, *texts) if len(texts) == len(said) else None
