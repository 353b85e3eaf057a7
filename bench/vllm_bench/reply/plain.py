"""The short cut through a stream: most of its events differ in their text alone.

Such an event is recognised by the bytes around its text, at a fifth of what reading JSON costs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .events import EventError, StreamEvent, read_event

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content)":"([^"\\]+)"')
STAND_IN = b"\x78"  # any letter: only the bytes around it matter


@dataclass(frozen=True, slots=True)
class PlainEvent:
    """The bytes before and after the text in events that differ only in their text."""

    before: bytes
    after: bytes

    def matches(self, payload: bytes) -> bool:
        """Whether a payload is this event with another, non-empty text."""
        if not (payload.startswith(self.before) and payload.endswith(self.after)):
            return False
        text = payload[len(self.before) : -len(self.after)]
        # A quote would end the string; a backslash at its end would keep it open.
        return bool(text) and b'"' not in text and not text.endswith(b"\\")


def plain_event_of(payload: bytes) -> PlainEvent | None:
    """Return the pattern of a payload; None where it has more than one text."""
    found = TEXT.findall(payload)
    place = TEXT.search(payload)
    if place is None or len(found) != 1:
        return None
    plain = PlainEvent(payload[: place.start(1)], payload[place.end(1) :])
    try:
        event = read_event(plain.before + STAND_IN + plain.after)
    except EventError:
        return None
    return plain if _says_one_text(event) else None


def _says_one_text(event: StreamEvent) -> bool:
    other = event.finish_reasons or event.usage or event.error or event.fingerprint
    return event.has_tokens and not other and event.token_count == 0
