"""One run through a session, while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...plan.sessions.script import Plays, Step
from ...plan.share import Message, Talk

# Stands in the history for an answer without visible text (all of it was thought, or a tool call):
# Mistral refuses an empty answer, and its template and Gemma's two turns of a user in a row.
NO_TEXT = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(eq=False, slots=True)
class Stream:
    """Plays one session after the other."""

    index: int | None  # its number; None: plays begin by the clock
    turned_away: int = 0  # how many of its requests in a row


class Play:
    """A play of a session: which of its turns have ended, and what its answers were."""

    def __init__(self, plays: Plays, number: int, stream: Stream, start_ns: int) -> None:
        """Begin at `start_ns`, with no turn sent."""
        self._plays = plays
        self.number = number
        self.stream = stream
        self.start_ns = start_ns
        script = plays.script(number)
        self.steps, self._followers = script.steps, script.course.followers
        self.begin = plays.begin(number)
        # Stamps count from the session's start, which lies before that of a deeper play.
        behind_ns = (self.steps[self.begin].not_before_ns or 0) if self.begin else 0
        self._zero_ns = start_ns - behind_ns
        self.open = 0  # turns that wait or are under way
        self.failed = False
        self._ended = set(range(self.begin))  # places
        self._answers: dict[int, str] = {}  # by place, where a later prompt has them

    def first(self) -> Iterator[tuple[int, int]]:
        """Yield the turns that wait for no other of this play, and when they are due (ns)."""
        for place in range(self.begin, len(self.steps)):
            step = self.steps[place]
            if self._ended.issuperset(step.after):
                deeper = place == self.begin > 0  # its wait was over before
                yield place, self._due_ns(step, self.start_ns, 0 if deeper else step.wait_ns)

    def after(self, place: int, ended_ns: int) -> list[tuple[int, int]]:
        """Note the end of a turn; return those that waited for it last, and when they are due."""
        self._ended.add(place)
        steps = ((follower, self.steps[follower]) for follower in self._followers[place])
        return [
            (follower, self._due_ns(step, ended_ns, step.wait_ns))
            for follower, step in steps
            if self._ended.issuperset(step.after)
        ]

    def _due_ns(self, step: Step, from_ns: int, wait_ns: int) -> int:
        due_ns = from_ns + wait_ns
        return (
            due_ns
            if step.not_before_ns is None
            else max(due_ns, self._zero_ns + step.not_before_ns)
        )

    def request(self, place: int) -> int:
        """Return the number of a turn's request."""
        return self._plays.first(self.number) + place - self.begin

    def answered(self, place: int, answer: str) -> None:
        self._answers[place] = answer or NO_TEXT

    def messages(self, place: int, talk: Talk) -> list[Message]:
        """Return what a turn goes on from, and what it adds."""
        pieces: list[tuple[Message, ...]] = []
        at: int | None = place
        while at is not None:
            if at != place:
                pieces.append(({"role": "assistant", "content": self._answers[at]},))
            pieces.append(talk.adds(self._plays.position(self.number, at)))
            at = self.steps[at].history
        return [message for piece in reversed(pieces) for message in piece]
