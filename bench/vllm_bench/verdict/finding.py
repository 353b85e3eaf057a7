"""A doubt about a run: what was found, how bad it is, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.IntEnum):
    """What a finding does to the verdict."""

    NOTE = 0  # worth knowing; changes nothing
    SUSPECT = 1  # the figures may mislead
    INVALID = 2  # the figures don't mean what they say


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason code with its figures and the remedy, each a sentence for people."""

    code: str
    severity: Severity
    figures: str
    advice: str
