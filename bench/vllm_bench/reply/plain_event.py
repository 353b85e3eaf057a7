"""The event that a stream repeats: the same bytes around another text, thousands of times.

    {"id":"x","choices":[{"index":0,"delta":{"content":" the"},"finish_reason":null}]}

Reading JSON is most of what a chunk costs. Once one event of a stream was read in full, those
that differ in its text alone can be told by their bytes: the text is a JSON string without a
quote in it, so nothing around it can have another meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .events import EventError, StreamEvent, read_event

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content)":"([^"\\]+)"')
STAND_IN = b"\x78"  # any letter: what is asked is what stands around it


@dataclass(frozen=True, slots=True)
class PlainEvent:
    """The bytes before and after the text of an event that says nothing but its text."""

    before: bytes
    after: bytes

    def matches(self, payload: bytes) -> bool:
        """Whether a payload is this event with another text, which isn't empty."""
        if not (payload.startswith(self.before) and payload.endswith(self.after)):
            return False
        text = payload[len(self.before) : -len(self.after)]
        # A quote would end the string; a backslash at its end would keep it open.
        return bool(text) and b'"' not in text and not text.endswith(b"\\")


def plain_event_of(payload: bytes) -> PlainEvent | None:
    """Return what the payload repeats; None where it says more than one text."""
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
