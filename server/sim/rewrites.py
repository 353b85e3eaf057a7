"""What becomes of an event under a fault: pieces that are a chunk of the body and a write each."""

from __future__ import annotations

from collections.abc import Callable

Rewrite = Callable[[bytes], list[bytes]]


def _bytes_alone(event: bytes) -> list[bytes]:
    return [event[at : at + 1] for at in range(len(event))]


def _cut_in_characters(event: bytes) -> list[bytes]:
    borders = [at for at, byte in enumerate(event) if byte & 0xC0 == 0x80]  # inside a character
    starts = [0, *borders]
    return [event[a:b] for a, b in zip(starts, [*borders, len(event)], strict=True)]


def cut_short(event: bytes) -> list[bytes]:
    """Return an event whose JSON breaks off, as one piece."""
    return [event[: len(event) // 2] + b"\n\n"]


REWRITES: dict[str, Rewrite] = {
    "split_bytes": _bytes_alone,
    "split_utf8": _cut_in_characters,
    "crlf": lambda event: [event.replace(b"\n", b"\r\n")],
    "comments": lambda event: [b": still here\n\n", event],
}
