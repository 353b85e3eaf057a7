"""Whole files: written beside their names and renamed, so that a reader sees all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a path to write to, and rename it to `path` at the block's end. Raises OSError."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()  # half a file would take the last of a full disk
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file beside its name and rename it into place. Raises OSError."""
    with beside(path) as unfinished:
        unfinished.write_bytes(data)
