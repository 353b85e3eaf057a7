"""Whether the results folder will take a run, found out before the first request."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROW_BYTES = 500  # a row of a healthy run has about 350
SPARE_BYTES = 20_000_000  # for telemetry, pictures and the file system's own needs


class FolderError(Exception):
    """A folder that can't hold the results; the text is one line for people."""


def check_folder(folder: Path, rows: int) -> None:
    """Make the folder if need be and prove that it takes `rows` rows. Raises FolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # permissions can lie: write for real
            probe.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise FolderError(f"{folder}: can't be written: {e.strerror}: name another folder") from e
    needed = rows * ROW_BYTES + SPARE_BYTES
    if free < needed:
        raise FolderError(
            f"{folder}: {free // 1_000_000} MB free, {needed // 1_000_000} MB may be needed for "
            f"{rows:,} rows: make room or name another folder"
        )


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """Remove at the block's end what of the folder was made inside it and holds nothing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it isn't there, or it is in use
                path.rmdir()
