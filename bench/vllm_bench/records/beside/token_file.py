"""`results/tokens/<run_id>.npz`: when each token came, for every request of a run.

    import numpy as np
    run = np.load("results/tokens/<run_id>.npz")
    i = 17                                            # a request's place in the file
    begin, end = run["first_read"][i : i + 2]
    run["request_index"][i], run["t_ns"][begin:end]   # its stamps, ns from the run's start

| array | type | one value for each | meaning |
|---|---|---|---|
| `request_index` | int32 | request | its place in the plan, as in the CSV |
| `first_read` | int64 | request, and one more | its reads: `first_read[i]` to `first_read[i + 1]` |
| `t_ns` | int64 | read that brought tokens | its stamp, in ns from the run's start |
| `events` | uint16 | the same | token events that it brought |
| `tokens` | uint16 | the same | tokens that it brought; 0: unknown |

Requests are in the order of their ends. A read takes 12 bytes before compression. During the run,
requests are appended to `<run_id>.part` as they end; the complete file is written at the end. A run
that was killed leaves the part file, which `recover` reads.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request_record import LEAST_AND_MOST, MOST_S, RecordsError
from ..row import Rows
from ..safe_file import new_file, opened, read_regular, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

# One request's reads: the stamp, token events and tokens of each, as `reply.grouped` returns them.
Reads = tuple["array[int]", "array[int]", "array[int]"]
READ_TYPES = (("t_ns", "q"), ("events", "H"), ("tokens", "H"))
MOST_BYTES = 2**33  # a million replies of 200 tokens have 2.4 GB
MOST_INDEX = int(LEAST_AND_MOST["request_index"][1])


class TokenWriter:
    """Appends requests to the part file; `close` turns it into the complete one."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Begin `<run_id>.part`. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._part = folder / f"{run_id}.part"
        self._whole = folder / f"{run_id}.npz"
        self._file = os.fdopen(new_file(self._part), "wb")

    def write(self, request_index: int, reads: Reads) -> None:
        """Append the reads of one request. Raises OSError."""
        self._file.write(frame(request_index, reads))

    def flush(self) -> None:
        """Hand what was appended to the operating system. Raises OSError."""
        self._file.flush()

    def close(self) -> None:
        """Write the complete file and remove the part file. Raises OSError."""
        self._file.close()
        save(recover(self._part), self._whole)
        self._part.unlink()


def frame(request_index: int, reads: Reads) -> bytes:
    """Return the reads of one request as they stand in a part file."""
    head = array("q", [request_index, len(reads[0])])
    return b"".join([head.tobytes(), *(part.tobytes() for part in reads)])


def frames_of(found: Arrays) -> Iterator[bytes]:
    """Yield each request of a complete file as it would stand in a part file."""
    begins = found["first_read"].tolist()
    for at, index in enumerate(found["request_index"].tolist()):
        reads = (found[name][begins[at] : begins[at + 1]].tobytes() for name, _ in READ_TYPES)
        yield b"".join([array("q", [index, begins[at + 1] - begins[at]]).tobytes(), *reads])


def recover(part: Path) -> Arrays:
    """Read a part file; a request that a kill cut off is left out. Raises OSError, ValueError."""
    import numpy as np

    data = read_regular(part, MOST_BYTES)
    indexes: list[int] = []
    counts: list[int] = []
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name, _ in READ_TYPES}
    at, head_bytes = 0, 2 * array("q").itemsize
    read_bytes = sum(array(kind).itemsize for _, kind in READ_TYPES)
    while at + head_bytes <= len(data):
        index, count = array("q", data[at : at + head_bytes])
        at += head_bytes
        if count < 0 or at + count * read_bytes > len(data):
            break
        for name, kind in READ_TYPES:
            piece = np.frombuffer(data, dtype=kind, count=count, offset=at)
            pieces[name].append(piece)
            at += piece.nbytes
        indexes.append(index)
        counts.append(count)
    found: dict[str, NDArray[Any]] = {
        "request_index": _indexes(indexes),
        "first_read": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
    }
    for name, kind in READ_TYPES:
        joined = pieces[name] or [np.array([], dtype=kind)]
        found[name] = np.concatenate(joined)
    return _consistent(found)


def _indexes(found: list[int]) -> NDArray[Any]:
    import numpy as np

    if any(not 0 <= index <= MOST_INDEX for index in found):
        raise ValueError("a request_index that can't be")
    return np.array(found, dtype=np.int32)


def save(arrays: Arrays, path: Path) -> None:
    """Write the arrays to a temporary file and rename it. Raises OSError."""
    import numpy as np

    with (
        replacing(path) as unfinished,
        # Level 1: stamps get hardly smaller with more, and take four times as long.
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# What the complete file holds, and the bytes that a value takes.
ARRAYS = {
    "request_index": "<i4",
    "first_read": "<i8",
    **{"t_ns": "<i8", "events": "<u2", "tokens": "<u2"},
}
MOST_HEADER = 1000  # bytes that numpy writes before an array; 128, usually
MAGIC = b"\x93NUMPY\x01\x00"
# As numpy writes it. Its own reader takes any Python literal, however deep.
HEADER = re.compile(
    rb"\{'descr': '(\S{3})', 'fortran_order': (?:False|True), 'shape': \((\d{1,18}),\), \} *\n"
)


def load(path: Path, most_values: int = MOST_BYTES // 8) -> Arrays:
    """Read the arrays of a complete file. Raises OSError, ValueError.

    What the file says of itself is compared with what is in it, and with the most values that an
    array may have, before memory is asked for.
    """
    try:
        with opened(path, MOST_BYTES) as file, zipfile.ZipFile(file) as archive:
            arrays = {n: _array(archive, n, kind, most_values) for n, kind in ARRAYS.items()}
    except DAMAGED as e:
        raise ValueError(str(e) or type(e).__name__) from e
    return _consistent(arrays)


DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError),
    *(NotImplementedError, RuntimeError),  # another compression; encrypted
)


def _array(archive: zipfile.ZipFile, name: str, kind: str, most: int) -> NDArray[Any]:
    """Return one array, a plain row of numbers of this kind. Raises ValueError and `DAMAGED`."""
    import numpy as np

    member = archive.getinfo(f"{name}.npy")
    # Deflate packs a thousand times at most: a larger array isn't in there, whatever is said.
    if member.file_size > MOST_HEADER + min(8 * most, 1100 * member.compress_size):
        raise ValueError(f"{name}: {member.file_size:,} bytes are said to be in it")
    with archive.open(member) as file:
        begin = file.read(len(MAGIC) + 2)
        header = HEADER.fullmatch(file.read(int.from_bytes(begin[len(MAGIC) :], "little")))
        if not begin.startswith(MAGIC) or header is None or header[1] != kind.encode():
            raise ValueError(f"{name}: not an array of one row of {np.dtype(kind)}")
        values = int(header[2])
        data = file.read(member.file_size)  # to its end, where its checksum is compared
    if len(data) != values * np.dtype(kind).itemsize:
        raise ValueError(f"{name}: an array of {len(data)} bytes, not of {values} values")
    found: NDArray[Any] = np.frombuffer(data, dtype=kind)
    return found


def _consistent(found: Arrays) -> Arrays:
    """Return the arrays. Raises ValueError where they don't fit together."""
    import numpy as np

    first, index = found["first_read"], found["request_index"]
    sizes = {found[name].size for name, _ in READ_TYPES}
    if first.size != index.size + 1 or first[0] != 0 or sizes != {int(first[-1])}:
        raise ValueError("first_read doesn't fit the reads")
    if (np.diff(first) < 0).any() or (index < 0).any() or np.unique(index).size < index.size:
        raise ValueError("first_read or request_index can't be")
    if index.max(initial=0) > MOST_INDEX or np.abs(found["t_ns"]).max(initial=0) > 1e9 * MOST_S:
        raise ValueError("request_index or t_ns is too large")
    return found


MORE_READS = 1_000_000  # than the rows have: those of a row that a kill cut off


def read_stamps(run: Path, rows: Rows) -> Arrays | None:
    """Return the stamps that belong to a run's rows, also of a killed run; None: there are none.

    Raises RecordsError where they are damaged, or another run's.
    """
    path = run.parent / "tokens" / f"{run.stem}.npz"
    part = path.with_suffix(".part")
    whole = not os.path.lexists(part)  # else it has all that the complete file has, and more
    if not whole:
        path = part
    if not os.path.lexists(path):
        return None
    most = int(rows["token_reads"].sum()) + len(rows) + MORE_READS
    try:
        found = load(path, most) if whole else recover(path)
    except OSError as e:
        raise RecordsError(f"{path}: can't be read: {e.strerror}") from e
    except ValueError as e:
        raise RecordsError(f"{path}: damaged: {e}") from e
    problem = whose(found, rows, whole=whole)
    if problem:
        raise RecordsError(f"{path}: {problem}")
    return found


STAMP_APART_S = 2e-6  # a row's times have six decimals


def whose(found: Arrays, rows: Rows, *, whole: bool = True) -> str | None:
    """Return why stamps aren't those of a run's own rows; None: they are.

    Of each success the rows tell how many reads brought tokens, and when the first one came. Of a
    killed run (`whole` is false) the last stamps may be missing.
    """
    import numpy as np

    own = rows.of(~rows.has("error_kind"))
    order = np.argsort(found["request_index"], kind="stable")
    ordered = np.append(found["request_index"][order], -1)
    at = np.searchsorted(ordered[:-1], own["request_index"])
    there = ordered[at] == own["request_index"]
    if whole and not there.all():
        return f"{int((~there).sum())} of {len(own)} successes have no stamps"
    own, at = own.of(there), order[at[there]]
    firsts, counts = found["first_read"][at], np.diff(found["first_read"])[at]
    if (counts != own["token_reads"]).any():
        return "of another run: its reads aren't those of the rows"
    timed = own.has("ttft_ms") & (counts > 0)
    came_s = (own["t_sent_s"] + own["ttft_ms"] / 1000)[timed]
    if (np.abs(found["t_ns"][firsts[timed]] / 1e9 - came_s) > STAMP_APART_S).any():
        return "of another run: its stamps aren't those of the rows"
    return None
