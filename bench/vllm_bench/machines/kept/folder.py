"""Where a machine keeps what it measures: in a folder that is its user's alone.

Whoever could write there would have rows of their own taken for measured ones.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o700
OTHERS = 0o077  # what nobody else may


def usual_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of a user who names none: under their state, else under temporary files.

    Raises OSError: neither can be written.
    """
    problem: OSError | None = None
    for path in _usual(environ):
        try:
            return private_folder(path)
        except OSError as e:
            problem = e
    assert problem is not None  # there is a folder for temporary files
    raise problem


def _usual(environ: Mapping[str, str]) -> Iterator[Path]:
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state.startswith("/"):  # others count for nothing, says the XDG specification
        yield Path(state) / "vllm-bench"
    elif home.startswith("/"):
        yield Path(home) / ".local" / "state" / "vllm-bench"
    yield Path(tempfile.gettempdir()) / f"vllm-bench-{os.geteuid()}"


def private_folder(path: Path) -> Path:
    """Return a folder of this user's alone, made if it isn't there.

    Raises OSError: it can't be written, or others may.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(PRIVATE)
    refuse_others(path, path.lstat(), stat.S_ISDIR)
    with tempfile.TemporaryFile(dir=path) as probe:  # permission bits may mislead
        probe.write(b"x")
    return path


def refuse_others(path: Path, found: os.stat_result, kind: Callable[[int], bool]) -> None:
    """Raise OSError where a file or folder isn't what it should be, or not this user's alone."""
    if not kind(found.st_mode):
        raise OSError(
            errno.EINVAL, "neither a link nor another kind of file may be there", str(path)
        )
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(errno.EPERM, f"others may use it ({mode:04o}; chmod go=)", str(path))
