"""The values of a row, each checked, and what a reader counts while it goes over the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ...records.text import printable
from ...traces.rows import MOST_TOKENS
from ..session import SessionError

MOST_S = 1e9  # thirty years
WHOLE = f"a whole number from 0 to {MOST_TOKENS:,}"


@dataclass(slots=True)
class Tally:
    """What people must know about how sessions were read."""

    left_out: Counter[str] = field(default_factory=Counter)  # by the reason
    notes: Counter[str] = field(default_factory=Counter)  # what was found so many times
    said: dict[str, None] = field(default_factory=dict)  # notes without a number, in their order
    unknown_waits: int = 0
    block_tokens: int | None = None

    def answer(self, tokens: int) -> int:
        """Return how long an answer is asked for, of the tokens that the file has."""
        self.notes["answers of zero tokens: one is asked for"] += tokens == 0
        return max(1, tokens)

    def told(self) -> tuple[str, ...]:
        """Return the notes, as lines."""
        return (*self.said, *(f"{number:,} {what}" for what, number in (+self.notes).items()))


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a row. Whatever is wrong with a value raises SessionError with its place."""

    given: Mapping[str, Any]
    where: str

    def wrong(self, key: str, expected: str) -> SessionError:
        """Return the complaint about a value."""
        given = self.given.get(key)
        shown = "nothing" if given is None else printable(repr(given), 60)
        return SessionError(f"{self.where}: {key}: expected {expected}, given {shown}")

    def tokens(self, key: str) -> int:
        value = self.given.get(key)
        if type(value) is not int or not 0 <= value <= MOST_TOKENS:
            raise self.wrong(key, WHOLE)
        return value

    def maybe_tokens(self, *keys: str) -> int | None:
        """Return the number of the first of these keys that has one."""
        key = next((key for key in keys if self.given.get(key) is not None), None)
        return None if key is None else self.tokens(key)

    def seconds(self, key: str, *, per_second: int = 1) -> float:
        """Return a time from 0, in seconds; the file has so many units a second."""
        value = self.given.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / per_second
            if 0 <= seconds <= MOST_S:
                return seconds
        unit = {1: "seconds", 1000: "milliseconds"}[per_second]
        raise self.wrong(key, f"{unit} from 0")

    def maybe_seconds(self, key: str, *, per_second: int = 1) -> float | None:
        if self.given.get(key) is None:
            return None
        return self.seconds(key, per_second=per_second)

    def text(self, key: str) -> str:
        value = self.given.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def name(self, key: str) -> str:
        """Return what something is called: a text, or a whole number as one."""
        value = self.given.get(key)
        if not isinstance(value, str) and type(value) is not int:
            raise self.wrong(key, "a name")
        return str(value)

    def maybe_name(self, key: str) -> str | None:
        return None if self.given.get(key) is None else self.name(key)

    def listed(self, key: str) -> list[Any]:
        value = self.given.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def maybe_listed(self, key: str) -> list[Any]:
        return [] if self.given.get(key) is None else self.listed(key)

    def objects(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a list; none where the key is missing."""
        for place, value in enumerate(self.maybe_listed(key)):
            where = f"{self.where}: {key}[{place}]"
            if not isinstance(value, dict):
                raise SessionError(f"{where}: expected an object, given {type(value).__name__}")
            yield Fields(value, where)

    def block_ids(self, expected: int, what: str) -> tuple[int, ...]:
        """Return the ids of a prompt's blocks, which must be as many as `expected`."""
        value = self.listed("hash_ids")
        if not {*map(type, value)} <= {int}:
            raise SessionError(f"{self.where}: hash_ids: expected whole numbers")
        if len(value) != expected:
            raise SessionError(
                f"{self.where}: hash_ids: expected {expected:,} {what}, given {len(value):,}"
            )
        return tuple(value)


def iso_seconds(text: object) -> float | None:
    """Return a date in seconds since 1970, of UTC where it names no zone; None: it is no date."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    whole, _, rest = text.strip().replace("Z", "+00:00").replace(" ", "T", 1).partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        at = datetime.fromisoformat(whole + rest[digits:])
        at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        since = at.timestamp() + (float(f"0.{rest[:digits]}") if digits else 0.0)
    except (ValueError, OverflowError):
        return None
    return since if math.isfinite(since) else None
