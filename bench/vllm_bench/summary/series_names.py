"""What series are called, on screen and in file names: a scenario, and what tells it apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from string import ascii_uppercase

from ..records.text import file_name, printable
from .levels import Series, identity, tokens_per_chunk
from .summary import RunSummary

MOST = 4  # differences in a name; the others are counted
LONGEST = 40  # characters of a value in a name
UNSET = "none"
OPAQUE = ("label", "server system_fingerprint")  # said otherwise: a hash is no name

Tell = Callable[[Sequence[Series]], Sequence[Sequence[str]]]


def named_series(series: Sequence[Series]) -> list[tuple[str, Series]]:
    """Return series with their names, each unlike the others: `short_chat (nightly)`.

    A label is always told. Series that share it, or have none, are told apart by their folders,
    else by their loop, else by the settings that differ.
    """
    words = [[one.scenario] for one in series]
    for tell in (_labels, _folders, _loops, _differences, _letters):
        for places in _sharing(words) if tell is not _labels else [range(len(series))]:
            for place, more in zip(places, tell([series[p] for p in places]), strict=True):
                words[place] = [*words[place], *more]
    return [(_name(*found), one) for found, one in zip(words, series, strict=True)]


def _sharing(words: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the places of the series that are called the same."""
    found: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(words):
        found.setdefault(tuple(one), []).append(place)
    return [places for places in found.values() if len(places) > 1]


def _name(scenario: str, *words: str) -> str:
    return f"{scenario} ({', '.join(words)})" if words else scenario


def run_label(run: RunSummary) -> str:
    """Return a single run's scenario, with its label where it has one."""
    return _name(run.scenario, *_label(run))


def slug(name: str) -> str:
    """Return a series' name as part of a file's."""
    return file_name(re.sub(r"[^\w.]+", "-", name).strip("-"))


# ---- what tells series apart, the plainest first ----


def _labels(group: Sequence[Series]) -> list[list[str]]:
    return [_label(one.runs[0]) for one in group]


def _label(run: RunSummary) -> list[str]:
    label = run.setting("label")
    return [printable(label, LONGEST)] if label else []


def _folders(group: Sequence[Series]) -> list[list[str]]:
    """Return the ends of their paths, as long as it takes, where these differ."""
    paths = [one.runs[0].folder.parts for one in group]
    many = len(set(paths))
    if many == 1:
        return [[] for _ in group]
    length = next(n for n in range(1, 1 + max(map(len, paths))) if _ends(paths, n) == many)
    return [[printable(PurePath(*path[-length:]), LONGEST)] for path in paths]


def _ends(paths: Sequence[tuple[str, ...]], length: int) -> int:
    return len({path[-length:] for path in paths})


def _loops(group: Sequence[Series]) -> list[list[str]]:
    both = len({one.levels[0].load.unit for one in group}) > 1
    return [["open loop" if one.levels[0].load.is_open else "closed loop"] * both for one in group]


def _differences(group: Sequence[Series]) -> list[list[str]]:
    """Return the facts that differ, the shortest first; long ones are cut, many are counted."""
    facts = [dict(_facts(one.runs[0])) for one in group]
    known = [found for found in facts if found]
    keys = [
        key
        for key in dict.fromkeys(key for found in known for key in found)
        if len({found.get(key, UNSET) for found in known}) > 1
    ]
    told = [{key: f"{key}={found.get(key, UNSET)}" for key in keys} for found in facts]
    keys.sort(key=lambda key: max(len(words[key]) for words in told))
    more = [f"and {len(keys) - MOST} more"] * (len(keys) > MOST)
    return [
        [*(words[key] for key in keys[:MOST]), *more] if found else ["settings unknown"]
        for found, words in zip(facts, told, strict=True)
    ]


def _facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield what a run was, as short names and values for people."""
    found = {key: value for key, value in identity(run).items() if key not in OPAQUE}
    size = tokens_per_chunk(run)
    if found and size is not None:
        found["tokens per chunk"] = round(size)
    flat = list(_flat("", found))
    ends = [name.rpartition(".")[2] for name, _ in flat]
    for (name, value), end in zip(flat, ends, strict=True):
        yield end if ends.count(end) == 1 else name, value


def _flat(prefix: str, found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        elif value is not None:
            yield printable(name, LONGEST), printable(value, LONGEST)


def _letters(group: Sequence[Series]) -> list[list[str]]:
    """Return a letter for each: what differs is a hash, which says nothing to people."""
    servers = {one.runs[0].server("system_fingerprint") for one in group}
    prompts = {one.runs[0].prompts_sha256 for one in group}
    what = "server" if len(servers) > 1 else "prompts" if len(prompts) > 1 else "series"
    return [[f"{what} {ascii_uppercase[place % 26]}"] for place, _ in enumerate(group)]
