"""Files that are written completely or not at all, and files that are locked during a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and rename it to `path` at the block's end. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # no two processes share it
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()  # half a file would only use up a full disk
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file and rename it into place. Raises OSError."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


def lock(descriptor: int) -> None:
    """Lock an open file (opened for reading and writing) until it is closed."""
    _flock(descriptor, exclusive=False)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file inside the block; where that is impossible, go on without."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield  # a run goes on without
        return
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unlocked(path: Path) -> Iterator[bool]:
    """Yield whether no process locks the file, and keep it so inside the block.

    False where another process does, and where that is unknown.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield False
        return
    try:
        yield _flock(descriptor, exclusive=True)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, *, exclusive: bool) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (ImportError, OSError):  # no such locks here; BlockingIOError: another process locks it
        return False
    return True
