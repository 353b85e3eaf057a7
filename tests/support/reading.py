"""What a test asks of a text for people: its figures, and that it is one line."""

from __future__ import annotations

import re


def numbers(text: str) -> list[float]:
    """Return the numbers of a text, in order: `1,200 of 3.5` is [1200, 3.5]."""
    found = re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)
    return [float(number.replace(",", "")) for number in found]


def one_line(text: str) -> str:
    """Return a text's only line."""
    (line,) = text.splitlines()
    return line
