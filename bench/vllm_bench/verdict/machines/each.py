"""Each machine is judged by itself: among ten, one that is late hardly moves the figures of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...figures.facts import Facts
from ...figures.machines.machine import LONGEST_NAME
from ...records.text import printable
from ..finding import Check, Family, Found, Severity, found_by

# What these find wrong with one machine is wrong with the figures of its users.
OWN = ("send_lag", "stamp_error", "loop_lag", "client_cpu", "merged_reads", "buffered")
# These are of the load as the server sees it: of a machine they tell who is to blame.
BLAMED = ("errors", "turned_away", "rate_shortfall")
MORE = 1.5  # times the share of all: that much worse is one machine's doing, not everybody's
_Of = dict[tuple[str, Family], list[tuple[str, Found]]]  # by code and family: (machine, finding)


def by_machine(whole: Sequence[Found], checks: Sequence[Check], facts: Facts) -> list[Found]:
    """Return what was found of a run with what is found of its machines, the worst of each named.

    Of equally serious findings under one code that of the machine stays, which names it; that of
    the run does where over half of the machines have it.
    """
    of_each, half = _of_each(checks, facts), len(facts.machines) / 2
    found = [
        _with_machine(one, of_each.pop((one.check.code, one.about), []), half) for one in whole
    ]
    alone = [told for key, of in of_each.items() if (told := _alone(key[0], of))]
    return [*found, *alone]


def _of_each(checks: Sequence[Check], facts: Facts) -> _Of:
    mine = [one for one in checks if one.code in (*OWN, *BLAMED)]
    found: _Of = {}
    judged = {n: p for n, p in facts.machines.items() if p.info and p.rows and p.load.value > 0}
    for name, part in judged.items():
        for one in found_by(mine, part):
            found.setdefault((one.check.code, one.about), []).append((name, one))
    return found


def _with_machine(one: Found, of_each: Sequence[tuple[str, Found]], half: float) -> Found:
    """Return a run's finding with the machine that is to blame for it, if one is."""
    if not of_each:
        return one
    name, worst = _worst(of_each)
    if one.check.code in OWN:
        few = sum(found.severity >= one.severity for _, found in of_each) <= half
        return _named(of_each) if worst.severity >= one.severity + (not few) else one
    if worst.doubt.value <= MORE * one.doubt.value:
        return one
    figures = f"{one.doubt.figures}; the most on {_shown(name)}: {worst.doubt.figures}"
    return replace(one, doubt=replace(one.doubt, figures=figures))


def _alone(code: str, of_each: Sequence[tuple[str, Found]]) -> Found | None:
    """Return what is found of machines where the run as a whole is within the limits.

    Of the load it is a note: the server got what it should, but for what one machine lacks.
    """
    found = _named(of_each)
    if code in OWN:
        return found
    return replace(found, severity=Severity.NOTE) if found.severity > Severity.SUSPECT else None


def _named(of_each: Sequence[tuple[str, Found]]) -> Found:
    """Return the worst finding with the name of its machine, and how many others have it."""
    name, worst = _worst(of_each)
    others = len(of_each) - 1
    more = f" (and {others} other{'s' * (others > 1)} less)" if others else ""
    figures = f"{_shown(name)}{more}: {worst.doubt.figures}"
    return replace(worst, doubt=replace(worst.doubt, figures=figures))


def _worst(of_each: Sequence[tuple[str, Found]]) -> tuple[str, Found]:
    return max(of_each, key=lambda one: (one[1].severity, one[1].doubt.value))


def _shown(name: str) -> str:
    return f"machine {printable(name, LONGEST_NAME)}"
