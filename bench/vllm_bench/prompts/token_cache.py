"""Token counts on disk, so that the next run doesn't ask the server again.

One JSON-lines file per way of counting (model, endpoint, system prompt): a line a text,
its content's sha256 and its count, no text. Lines are appended, a batch in one write, so
processes may share the file; a line that a kill or a full disk tore is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path


class TokenCountCache:
    """Counts by content, kept in memory and appended to a file."""

    def __init__(self, folder: Path, scope: Sequence[str]) -> None:
        """Open the counts of one way of counting; `scope` is whatever changes the counts."""
        digest = hashlib.sha256(json.dumps(list(scope)).encode()).hexdigest()[:16]
        label = re.sub(r"[^A-Za-z0-9.-]+", "-", scope[0] if scope else "")[-60:].strip("-.")
        self._path = folder / f"{label}-{digest}.jsonl"
        self._counts = _read(self._path)

    def get(self, content_sha256: str) -> int | None:
        """Return a count; None where it isn't known."""
        return self._counts.get(content_sha256)

    def add(self, counts: Mapping[str, int]) -> None:
        """Keep counts. Where the disk doesn't take them they are kept in memory alone."""
        new = {key: n for key, n in counts.items() if key not in self._counts}
        self._counts.update(new)
        # The line break comes first: it ends a line that a kill tore off.
        lines = "".join(f'\n{{"sha256":"{key}","tokens":{n}}}' for key, n in new.items())
        if lines:
            _append(self._path, lines.encode() + b"\n")

    def forget(self) -> None:
        """Drop all counts: the server counts differently now."""
        self._counts.clear()
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # a read-only cache: this run doesn't use it, the next one finds out again


def _read(path: Path) -> dict[str, int]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    counts = {}
    for line in lines:
        try:
            row = json.loads(line)
            counts[str(row["sha256"])] = int(row["tokens"])
        except (ValueError, KeyError, TypeError):
            continue  # torn off, or empty: that text is counted again
    return counts


def _append(path: Path, data: bytes) -> None:
    """Append in one write: with O_APPEND, whole batches of several processes don't mix."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return  # a cache saves time; a run doesn't end for want of it
    try:
        os.write(descriptor, data)
    except OSError:
        return
    finally:
        os.close(descriptor)
