"""Whoever writes a run holds its rows' file, so that a reader can tell it from a run that died.

The hold is a shared flock, which ends with its process, however that ends: writers hold it side
by side, and a reader that gets the file for itself knows that none is left. Where the system or
the file system has no such locks (some network mounts), nothing is known, and nothing breaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
