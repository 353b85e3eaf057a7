"""JSON files by which ab.py, capacity.py and tune.py go on after they were broken off."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import BenchError
from ..safe_file import read_regular, write_atomically
from ..text import printable

T = TypeVar("T")
MOST_BYTES = 16_000_000


class KeptError(BenchError):
    """A file that can't be gone on with; the text is one line for people."""


class Kept(BaseModel):
    """A part of such a file: nothing else may be in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_kept(path: Path, what: str, read: Callable[[bytes], T]) -> T:
    """Return what a file holds; `what` it should be, for people. Raises KeptError."""
    try:
        return read(read_regular(path, MOST_BYTES))
    except OSError as e:
        raise KeptError(f"{path}: can't be read: {e.strerror}") from e
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        said = printable(f"{where}: {first['msg']}")
        raise KeptError(f"{path}: not {what}: {said}") from e
    except ValueError as e:
        raise KeptError(f"{path}: not {what}: {printable(e)}") from e


def readable(paths: Iterable[Path], read: Callable[[Path], T]) -> Iterator[T]:
    """Yield what these files hold; another script's, or a damaged one, can't be gone on with."""
    for path in paths:
        try:
            yield read(path)
        except KeptError:
            continue


def write_kept(path: Path, kept: Kept) -> None:
    """Write such a file; readers see all of it or nothing. Raises OSError."""
    write_atomically(path, kept.model_dump_json(indent=2).encode() + b"\n")


def new_id() -> str:
    """Return a name that nothing else has: `20261128T150000Z-1f2e3d4c`."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def now() -> str:
    """Return the time for a file, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def checksum(facts: object) -> str:
    """Return a checksum that is equal where facts are, in any order of keys."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
