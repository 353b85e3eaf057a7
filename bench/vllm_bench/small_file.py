"""Reads a file of a person's whole: a regular one of at most so many bytes, UTF-8 text."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class UnreadableError(Exception):
    """A file that can't be read; the text says why, without the file's name or content."""


class MissingError(UnreadableError):
    """There is no such file."""


def small_text(path: Path, most_bytes: int) -> str:
    """Return a file's text, without a byte order mark; line ends are as the file has them.

    Raises UnreadableError, of which MissingError is one.
    """
    data = small_bytes(path, most_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise UnreadableError(f"line {line}: not UTF-8 text: save it as utf-8") from e


def small_bytes(path: Path, most_bytes: int) -> bytes:
    """Return what a regular file holds; a pipe isn't waited for.

    Raises UnreadableError, of which MissingError is one.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise UnreadableError(f"longer than {most_bytes:,} bytes: is it the right file?")
        try:
            return file.read(most_bytes)
        except OSError as e:
            raise UnreadableError(f"can't be read: {e.strerror}") from e


def opened(path: Path) -> BinaryIO:
    """Open a regular file; a pipe isn't waited for. Raises UnreadableError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        kind = MissingError if isinstance(e, FileNotFoundError) else UnreadableError
        raise kind(f"can't be read: {e.strerror}") from e
    except ValueError as e:  # a name with NUL
        raise UnreadableError("can't be read: no file has such a name") from e
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise UnreadableError("can't be read: a folder, not a file")
    raise UnreadableError("can't be read: a pipe or a device, not a file: save it as one")
