"""The known word that is nearest to one that isn't known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    found = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
