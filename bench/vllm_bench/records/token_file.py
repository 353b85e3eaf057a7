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

import zipfile
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .safe_file import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of the reads of a request: stamps, token events and tokens, as `reply.grouped` returns them.
Reads = tuple["array[int]", "array[int]", "array[int]"]
READ_TYPES = (("t_ns", "q"), ("events", "H"), ("tokens", "H"))


class TokenWriter:
    """Appends requests to the part file; `close` turns it into the complete one."""

    def __init__(self, folder: Path, run_id: str) -> None:
        """Begin `<run_id>.part`. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._part = folder / f"{run_id}.part"
        self._whole = folder / f"{run_id}.npz"
        self._file = self._part.open("wb")

    def write(self, request_index: int, reads: Reads) -> None:
        """Append the reads of one request. Raises OSError."""
        head = array("q", [request_index, len(reads[0])])
        self._file.write(b"".join([head.tobytes(), *(part.tobytes() for part in reads)]))

    def flush(self) -> None:
        """Hand what was appended to the operating system. Raises OSError."""
        self._file.flush()

    def close(self) -> None:
        """Write the complete file and remove the part file. Raises OSError."""
        self._file.close()
        save(recover(self._part), self._whole)
        self._part.unlink()


def recover(part: Path) -> dict[str, NDArray[Any]]:
    """Read a part file; a request that a kill cut off is left out. Raises OSError."""
    import numpy as np

    data = part.read_bytes()
    indexes: list[int] = []
    counts: list[int] = []
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name, _ in READ_TYPES}
    at, head_bytes = 0, 2 * array("q").itemsize
    read_bytes = sum(array(kind).itemsize for _, kind in READ_TYPES)
    while at + head_bytes <= len(data):
        index, count = array("q", data[at : at + head_bytes])
        at += head_bytes
        if at + count * read_bytes > len(data):
            break
        for name, kind in READ_TYPES:
            piece = np.frombuffer(data, dtype=kind, count=count, offset=at)
            pieces[name].append(piece)
            at += piece.nbytes
        indexes.append(index)
        counts.append(count)
    found: dict[str, NDArray[Any]] = {
        "request_index": np.array(indexes, dtype=np.int32),
        "first_read": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
    }
    for name, kind in READ_TYPES:
        joined = pieces[name] or [np.array([], dtype=kind)]
        found[name] = np.concatenate(joined)
    return found


def save(arrays: dict[str, NDArray[Any]], path: Path) -> None:
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


def load(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the arrays of a complete file. Raises OSError, ValueError."""
    import numpy as np

    # Opened here, since numpy doesn't close a file that isn't an archive.
    with path.open("rb") as file, np.load(file) as found:
        return {name: found[name] for name in found.files}
