"""Errors that a person has to fix: one line of text, and the exit code."""

from __future__ import annotations

from typing import ClassVar


class BenchError(Exception):
    """Something failed. The text is one line: what was given, where, what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(BenchError):
    """The request can't work: a wrong flag, scenario file, or model name."""

    exit_code: ClassVar[int] = 2
