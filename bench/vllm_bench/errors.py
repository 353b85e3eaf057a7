"""What goes wrong and a person has to mend: one line of text, and the exit code that it means."""

from __future__ import annotations

from typing import ClassVar


class BenchError(Exception):
    """Something failed. The text is one line: what was given, where, what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(BenchError):
    """What was asked for can't work: a flag, a scenario file, a model that nobody serves."""

    exit_code: ClassVar[int] = 2
