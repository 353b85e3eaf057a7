"""Answers in one piece."""

from __future__ import annotations

import time

import orjson

from .answers import Answer, Choice
from .wire.bodies import whole_answer


class WholeAnswer(Answer):
    """Sends everything when the last token is there."""

    def made(self, choice: Choice) -> None:
        """Send the body after the last token of the last choice."""
        if choice.made == choice.length:
            self._open -= 1
            if not self._open:
                self.send()

    def body(self) -> bytes:
        """Return the JSON of the answer."""
        replies = [choice.reply for choice in self.choices]
        return orjson.dumps(whole_answer(self.ask, self.identity, replies, self.usage()))

    def send(self) -> None:
        """Send the body."""
        body = self.body()
        self.sent_tokens.append(sum(choice.made for choice in self.choices))
        self.sent_ns.append(time.perf_counter_ns())  # just before the socket gets the answer
        connection = self.caller.connection
        connection.put(200, body)
        self.finish("ok")
        connection.end()
