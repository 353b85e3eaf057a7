"""Sums that the simulator works out: `Compute 7 * 13 - 4.`, names standing for listed numbers.

A prompt that asks for a line `#### <number>` gets one, as from a model that is always right; how
load makes it wrong is a fault's business. Anything else is answered in the usual words.
"""

from __future__ import annotations

import operator
import re

ASKED = re.compile(r"Compute ([^\n]{1,200}?)\.\s")
LISTED = re.compile(r"^([a-z]+): (\d+)$", re.MULTILINE)
WORD = re.compile(r"[a-z]+")
TOKEN = re.compile(r"\s*(\d{1,12}|[-+*()])")
STEPS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def worked_out(prompt: str) -> str | None:
    """Return the reply to a sum, its last line `#### 87`; None: the prompt asks for none."""
    asked = ASKED.search(prompt) if "#### <number>" in prompt else None
    if asked is None:
        return None
    listed = dict(LISTED.findall(prompt))
    try:
        value = _Sum(WORD.sub(lambda name: listed[name[0]], asked[1])).value()
    except (KeyError, ValueError):
        return None
    return f"{asked[1]} = {value}\n#### {value}"


class _Sum:
    """Whole numbers, + - * and parentheses."""

    def __init__(self, text: str) -> None:
        self._left = TOKEN.findall(text)
        if "".join(self._left) != "".join(text.split()):
            raise ValueError("not a sum")

    def value(self) -> int:
        """Return what it comes to. Raises ValueError where it is none."""
        found = self._terms()
        if self._left:
            raise ValueError("more than a sum")
        return found

    def _terms(self) -> int:
        found = self._factors()
        while self._left[:1] in (["+"], ["-"]):
            found = STEPS[self._left.pop(0)](found, self._factors())
        return found

    def _factors(self) -> int:
        found = self._one()
        while self._left[:1] == ["*"]:
            found *= self._one(skip=1)
        return found

    def _one(self, skip: int = 0) -> int:
        del self._left[:skip]
        if not self._left:
            raise ValueError("cut short")
        piece = self._left.pop(0)
        if piece != "(":
            return int(piece)
        found = self._terms()
        if self._left[:1] != [")"]:
            raise ValueError("not closed")
        del self._left[0]
        return found
