"""Files that are written whole or not at all, and files that a process holds while it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and rename it to `path` at the block's end. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # no two processes share it
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()  # half a file would take the last of a full disk
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file beside its name and rename it into place. Raises OSError."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


def hold(descriptor: int) -> None:
    """Hold an open file, to be read and written, until it is closed."""
    _lock(descriptor, alone=False)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file inside the block; where that is impossible, don't."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield  # a run goes on without
        return
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Tell whether nobody holds a file, and keep it so inside the block.

    False where somebody does, and where nobody can tell.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield False
        return
    try:
        yield _lock(descriptor, alone=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, alone: bool) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (ImportError, OSError):  # no such locks here; or, BlockingIOError, somebody holds it
        return False
    return True
