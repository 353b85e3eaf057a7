"""The thoughts of one reply: how they came, and how many tokens they took.

What the usage says isn't enough: vLLM's parser `deepseek_r1` counts what stands between `<think>`
and `</think>` in the output, which is 0 where the template has opened the thought.
"""

from __future__ import annotations

import re

from ...records.request_record import Thoughts
from .event import StreamEvent, Usage

BEGIN, END = "<think>", "</think>"
# As Go's servers write it, and PHP's.
END_IN_JSON = re.compile(rb"(?:<|\\u003[cC])\\?/think(?:>|\\u003[eE])")


class Thinking:
    """Notes the token events of a reply, in their order."""

    def __init__(self) -> None:
        self.events = 0  # with thoughts
        self._mixed = 0  # of these, with a piece of the answer too
        self._uncounted = 0  # of these, whose tokens aren't known
        self._tokens = 0  # of the others
        self._empty = 0  # events for a token that couldn't be told
        self._opening = ""  # the answer's first characters
        self._ended = False  # END stands in the answer

    @property
    def is_opening(self) -> bool:
        """Whether the answer's next characters may tell that it begins with thoughts."""
        return len(self._opening) < len(BEGIN) and BEGIN.startswith(self._opening)

    def note(self, event: StreamEvent, tokens: int) -> None:
        """Take an event; `tokens`: how many it brought, 0: unknown."""
        self._empty += event.is_empty
        if event.thinks:
            self.events += 1
            self._mixed += event.has_visible_tokens
            self._uncounted += not tokens
            self._tokens += tokens
        if event.text:
            self._ended = self._ended or END in event.text
            if self.is_opening:
                self._opening = (self._opening + event.text).lstrip()[: len(BEGIN)]

    def note_plain(self, count: int, body: bytes, *, thinks: bool) -> None:
        """Take events that say one kind of text, as JSON; `body`: theirs, if it is the answer's."""
        if thinks:
            self.events += count
            self._uncounted += count
        elif not self._ended:
            self._ended = b"/think" in body and END_IN_JSON.search(body) is not None

    def kind(self, usage: Usage | None) -> Thoughts | None:
        """Return how thoughts came; None: there were none."""
        said = usage.thinking_tokens if usage else None
        if self.events:
            return "apart"
        # A server that counts thoughts knows where they end; another END is part of an answer.
        if self._opening == BEGIN or (self._ended and said is None):
            return "content"
        return "hidden" if said else None

    def tokens(
        self, usage: Usage | None, *, made: int | None, events: int, cut: bool
    ) -> int | None:
        """Return the tokens of the thoughts; None: unknown.

        `made`: the reply's tokens; `events`: its token events, 0 of a reply in one piece; `cut`:
        the limit ended it before there was an answer, so that all of it was thought.
        """
        said = usage.thinking_tokens if usage else None
        if not self.events:
            return None if self.kind(usage) == "content" else said
        # An event brings at least one.
        if said and said >= (self.events - self._mixed if events else 1):
            return said
        return made if cut else self._counted(made, events)

    def _counted(self, made: int | None, events: int) -> int | None:
        """Return what the stream itself tells, where each event is one token or has its count.

        The mark that ends a thought has no event of its own, so one may be missing.
        """
        if self._mixed or not events or made is None:
            return None
        if not self._uncounted:
            return self._tokens
        return self.events if made - 1 <= events + self._empty <= made else None
