"""The key of a session, in whatever form it lies in a file or comes on standard input."""

from __future__ import annotations

import secrets

from ...errors import UsageError

LEAST, MOST = 16, 4096  # bytes


def fresh() -> bytes:
    """Return a key that nobody can guess: 64 digits, which any file and pipe carries."""
    return secrets.token_hex(32).encode()


def key_of(found: bytes, where: str) -> bytes:
    """Return the key that a file or a pipe has: its bytes as they are, less newlines at its end.

    One rule for all forms (digits, text, raw bytes), so that the head and its foremen always read
    the same key out of the same file. Raises UsageError.
    """
    key = found.rstrip(b"\r\n")
    if not LEAST <= len(key) <= MOST:
        raise UsageError(f"{where}: {len(key)} bytes, but a key has {LEAST} to {MOST} of them")
    return key
