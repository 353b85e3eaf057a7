"""What one event of a reply says, whatever endpoint it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_COUNTED = 10**9  # tokens of a request; no context is as long
MOST_NAME = 200  # characters of a model's name, a fingerprint, a finish reason


class EventError(Exception):
    """An event whose payload doesn't belong in a completion stream."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server gives them; None: it doesn't."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    thinking_tokens: int | None = None  # of the completion tokens

    def after(self, before: Usage | None) -> Usage:
        """Return what both say, by the later one (this) where that knows: zeros may only fill."""
        if before is None:
            return self
        prompt = self if self.prompt_tokens or before.prompt_tokens is None else before
        made = self if self.completion_tokens or before.completion_tokens is None else before
        thought = before if self.thinking_tokens is None else self
        return Usage(
            *(prompt.prompt_tokens, made.completion_tokens, prompt.cached_tokens),
            thought.thinking_tokens,
        )


@dataclass(slots=True)  # not frozen: there is one for each token, and it is made faster so
class StreamEvent:
    """One event, or a complete reply that wasn't streamed."""

    has_tokens: bool = False
    has_visible_tokens: bool = False
    thinks: bool = False  # it has thoughts, beside an answer or alone
    is_empty: bool = False  # of a stream: neither a role, nor a token that could be told
    token_count: int = 0  # from `token_ids`; 0: unknown
    finish_reasons: dict[int, str] = field(default_factory=dict)  # by choice
    usage: Usage | None = None
    error: str | None = None
    error_code: int | None = None  # the HTTP status that the error would have had
    fingerprint: str | None = None
    model: str | None = None
    bad_usage: str | None = None  # usage that can't be true
    words: str | None = None  # of an event that is neither a completion nor an error
    text: str = ""  # visible, of the first choice
    done: bool = False  # the last one of a stream that has no [DONE]


def counted(value: Any) -> int:
    """Return a number of tokens; some gateways write 5.0 for 5.

    Raises TypeError, ValueError, OverflowError where it is none.
    """
    number = int(value)
    if value != number or isinstance(value, bool) or not 0 <= number <= MOST_COUNTED:
        raise ValueError("not a number of tokens")
    return number


def name_of(value: object) -> str | None:
    """Return a name that a server gives, cut to what a row can show; None: it is none."""
    return value[:MOST_NAME] if isinstance(value, str) and value else None


def thinking_in(details: object, made: int | None) -> int | None:
    """Return the `reasoning_tokens` of a usage's details; None: it has none that can be true."""
    said = details.get("reasoning_tokens") if isinstance(details, dict) else None
    try:
        found = None if said is None else counted(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if found is None or made is None or found > made else found
