"""Files in folders that others write to: read within bounds, written whole, locked in a run."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return a file's content.

    Raises OSError, also where it is no regular file (a FIFO would be waited for, a device has no
    end) or has more than `most_bytes`.
    """
    with opened(path, most_bytes) as file:
        # Not `most_bytes`: Python would take memory for all of that at once.
        data = file.read(os.fstat(file.fileno()).st_size)
        while more := file.read(1_000_000):  # it has grown, or didn't know its size
            data += more
            if len(data) > most_bytes:
                raise _too_large(path, most_bytes)
    return data


@contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    """Open a regular file for reading inside the block. Raises OSError as `read_regular` does."""
    _check(path, path.stat(), most_bytes)  # a device may do something when it is opened
    # It may have been replaced since: a FIFO without a writer isn't waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor), most_bytes)
        yield file


def _check(path: Path, found: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file (a pipe, a device?)", str(path))
    if found.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: Path, most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than the {most_bytes:,} bytes that it may have", str(path))


def new_file(path: Path, flags: int = 0) -> int:
    """Make a file that isn't there yet, and return its descriptor for writing and reading.

    Raises FileExistsError, where a link stands there too, and OSError.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | flags, 0o666)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and rename it to `path` at the block's end. Raises OSError.

    A link in the place of `path` is replaced, and what it leads to stays as it is.
    """
    # Nobody can have put a link there before: its name isn't known.
    unfinished = path.with_name(f".{path.name[:150]}.{secrets.token_hex(8)}.tmp")
    try:
        os.close(new_file(unfinished))
        yield unfinished
        unfinished.replace(path)
    except BaseException:  # a Ctrl-C, too
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
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
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
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
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
