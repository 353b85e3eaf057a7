"""What tells the series of one scenario apart: the settings, server or prompts that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from ..records.same_run import NOT_SETTINGS, SERVER_SETTINGS
from ..records.text import printable
from .levels import Series
from .summary import RunSummary

MOST = 4  # differences that a name holds; the rest are counted
LONGEST = 40  # characters of a value
UNSET = "none"


def named_series(series: Sequence[Series]) -> list[tuple[str, Series]]:
    """Return series with their names: the scenario's, and what differs where it has several.

    `short_chat: max_new_tokens=8`. A closed and an open loop need no more to tell them apart.
    """
    groups = groupby(series, key=lambda one: (one.scenario, one.levels[0].load.unit))
    return [pair for _, group in groups for pair in _named(list(group))]


def _named(group: Sequence[Series]) -> Iterator[tuple[str, Series]]:
    told = _differences(group)
    for one, settings in zip(group, told, strict=True):
        prompts = _prompts(one.runs[0]) if told.count(settings) > 1 else ""
        what = ", ".join(part for part in (settings, prompts) if part)
        yield f"{one.scenario}: {what}" if what and len(group) > 1 else one.scenario, one


def _differences(group: Sequence[Series]) -> list[str]:
    facts = [dict(_facts(one.runs[0])) for one in group]
    known = [found for found in facts if found]
    keys = [
        key
        for key in dict.fromkeys(key for found in known for key in found)
        if len({found.get(key, UNSET) for found in known}) > 1
    ]
    more = f", and {len(keys) - MOST} more" if len(keys) > MOST else ""
    return [
        ", ".join(f"{key}={found.get(key, UNSET)}" for key in keys[:MOST]) + more
        if found
        else "settings unknown"
        for found in facts
    ]


def _facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    """Return what two series may differ in; nothing where the run's settings were not kept."""
    if run.info is None:
        return
    settings = {k: v for k, v in run.info.scenario.items() if k not in NOT_SETTINGS}
    yield from _flat("", settings)
    yield from _flat("server ", {key: run.server(key) for key in SERVER_SETTINGS})


def _flat(prefix: str, found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif value is not None:
            yield printable(name, LONGEST), printable(value, LONGEST)


def _prompts(run: RunSummary) -> str:
    checksum = run.info.prompts.get("sha256") if run.info else None
    return f"prompts sha256={str(checksum)[:8]}" if checksum else ""
