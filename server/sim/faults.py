"""Faults on demand: which request gets which fault, as text or YAML.

    error_event:0.05@5, stall:#3,7@10=400ms, http_503:0.02, crlf

A fault is a kind; then which requests get it: a share of all (`:0.05`) or their numbers
from 1 (`:#3,7`), else every request; after how many tokens of the reply (`@5`); and how
long or how many (`=400ms`, `=8`). The same as YAML:

    faults:
      - {kind: error_event, rate: 0.05, after_tokens: 5}
      - {kind: stall, requests: [3, 7], after_tokens: 10, value: 400ms}

A request gets at most one fault: the first in the list that applies. The draw depends only
on the seed and the request's number.
"""

from __future__ import annotations

import difflib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DURATION = "duration"
COUNT = "count"


class FaultError(ValueError):
    """A fault that isn't possible; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what happens, and which of @ and = it takes."""

    what: str
    after_tokens: int | None = None  # after how many tokens, by default; None: it takes no @
    unit: str | None = None  # of its value; None: it takes no =
    value: float = 0.0  # seconds or a count, by default
    below: float = math.inf  # its value is less


STAND_STILL_EVERY_S = 10.0
KINDS = {
    "http_400": Kind("answer 400, a bad request"),
    "http_401": Kind("answer 401, unauthorized"),
    "http_404": Kind("answer 404, no such model"),
    "http_429": Kind("answer 429, too many requests"),
    "http_500": Kind("answer 500, the engine is dead"),
    "http_503": Kind("answer 503, unavailable"),
    "error_event": Kind("an error event in mid-stream, then [DONE]", 5),
    "busy_event": Kind("an error of code 503 in a stream of status 200, then [DONE]", 0),
    "no_done": Kind("the stream ends properly, but without finish, usage or [DONE]", 5),
    "cut": Kind("the connection closes in mid-stream", 5),
    "reset": Kind("the connection is reset (TCP RST) in mid-stream", 5),
    "stall": Kind("no tokens for a while, then all that waited", 5, DURATION, 0.4),
    "silent": Kind("no token ever comes"),
    "malformed": Kind("one event's JSON is cut short", 5),
    "split_bytes": Kind("every byte is sent alone"),
    "split_utf8": Kind("events are cut inside characters"),
    "merge": Kind("this many events in one write", None, COUNT, 8),
    "crlf": Kind("lines end in CRLF"),
    "comments": Kind("comment lines between the events"),
    "lone_cr": Kind("lines end in CR alone"),
    "heartbeats": Kind("empty events between the events"),
    "without_done": Kind("the stream is whole, but [DONE] is never sent"),
    "no_usage": Kind("the token counts are never sent"),
    "short": Kind("the reply has this many tokens, whatever was asked for", None, COUNT, 5),
    "long": Kind("the reply has this many tokens more than were asked for", None, COUNT, 5),
    "claim": Kind("the usage says this many tokens, whatever came", None, COUNT, 1000),
    "claim_prompt": Kind("the usage adds this many tokens to the prompt's", None, COUNT, 100),
    "all_in_one": Kind("the last event of a stream brings all of its tokens"),
    "no_tokens": Kind("a stream has its finish and its usage, but no token"),
    "only_thinks": Kind("a chat's whole reply is reasoning"),
    "other_model": Kind("the reply names another model"),
    "garbled": Kind("above this many in flight answers are garbled", None, COUNT, 16),
    "reworded": Kind("above this many in flight answers are put in other words", None, COUNT, 16),
    "ignore_salt": Kind("the prefix cache takes no notice of cache_salt"),
    "ignore_schema": Kind("response_format is taken and ignored"),
    "stand_still": Kind(
        "no token is made for this long in every 10 s", None, DURATION, 2.0, STAND_STILL_EVERY_S
    ),
    "slow_ready": Kind("the server listens only after a while", None, DURATION, 5.0),
    "idle_engine": Kind("of --data-parallel-size engines the last one gets no request"),
    "transferred": Kind("this many tokens of each prompt come from elsewhere", None, COUNT, 64),
    "crash": Kind("the server's process dies", 0),
}
SERVER_WIDE = ("slow_ready", "stand_still", "idle_engine", "transferred")

_ITEM = re.compile(
    r"(?P<kind>[^:@=\s]+)\s*"
    r"(:\s*(#(?P<requests>[^@=]+?)|(?P<rate>[^@=]+?)))?\s*"
    r"(@\s*(?P<after_tokens>[^=\s]+))?\s*"
    r"(=\s*(?P<value>\S+))?\s*"
)
_KEYS = ("kind", "rate", "requests", "after_tokens", "value")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and which requests get it."""

    kind: str
    rate: float = 1.0
    requests: frozenset[int] | None = None  # their numbers; None: by rate
    after_tokens: int = 0
    value: float = 0.0  # seconds or a count

    def strikes(self, number: int, seed: int, place: int) -> bool:
        """Return whether a request gets this fault; `place` is the fault's place in the list."""
        if self.requests is not None:
            return number in self.requests
        if self.rate >= 1:
            return True
        return random.Random((seed << 64) ^ (number << 8) ^ place).random() < self.rate


def fault_of(faults: Sequence[Fault], number: int, seed: int) -> Fault | None:
    """Return the first fault that applies to a request, by the request's number from 1."""
    for place, fault in enumerate(faults):
        if fault.kind not in SERVER_WIDE and fault.strikes(number, seed, place):
            return fault
    return None


def read_faults(spec: str) -> tuple[Fault, ...]:
    """Read faults from a line, or from the YAML file that it names."""
    if spec.endswith((".yaml", ".yml")):
        return _read_file(Path(spec))
    # A piece that is only digits belongs to the list of numbers before it.
    items = re.split(r",(?!\s*\d+\s*(?:,|@|=|$))", spec)
    return tuple(_read_item(item.strip()) for item in items if item.strip())


def _read_item(item: str) -> Fault:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise FaultError(f"{item!r} isn't a fault; write KIND[:RATE or :#1,2][@TOKENS][=VALUE]")
    given: dict[str, Any] = {key: text for key, text in found.groupdict().items() if text}
    if "requests" in given:
        given["requests"] = [number.strip() for number in given["requests"].split(",")]
    return _make(given, item)


def _read_file(path: Path) -> tuple[Fault, ...]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise FaultError(f"cannot read {path}: {e.strerror}") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f": see line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FaultError(f"{path} isn't YAML{where}") from None
    listed = content.get("faults") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise FaultError(f"{path} needs a list under `faults:`")
    return tuple(_make(item, f"{path}, fault {i}") for i, item in enumerate(listed, start=1))


def _make(given: object, where: str) -> Fault:
    if not isinstance(given, dict) or "kind" not in given:
        raise FaultError(f"{where}: a fault needs a `kind`")
    for key in given:
        if key not in _KEYS:
            raise FaultError(f"{where}: unknown key {key!r}{_nearest(str(key), _KEYS)}")
    name = str(given["kind"])
    kind = KINDS.get(name)
    if kind is None:
        raise FaultError(f"{where}: unknown kind {name!r}{_nearest(name, tuple(KINDS))}")
    if "rate" in given and "requests" in given:
        raise FaultError(f"{where}: give a rate or the requests' numbers, not both")
    for key, taken in (("after_tokens", kind.after_tokens), ("value", kind.unit)):
        if key in given and taken is None:
            raise FaultError(f"{where}: {name} takes no {'@' if key != 'value' else '='}, no {key}")
    if name in SERVER_WIDE and given.keys() & {"rate", "requests"}:
        raise FaultError(f"{where}: {name} is the server's, not a request's; it takes no :")
    requests = given.get("requests")
    return Fault(
        name,
        _rate(given.get("rate", 1), where),
        None if requests is None else _numbers(requests, where),
        _whole(given.get("after_tokens", kind.after_tokens or 0), "after_tokens", where, 0),
        _value(given["value"], kind, where) if "value" in given else kind.value,
    )


def _rate(given: object, where: str) -> float:
    try:
        rate = float(str(given))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise FaultError(
            f"{where}: rate {given!r} isn't a share from 0 to 1; for numbers write #3,7"
        )
    return rate


def _numbers(given: object, where: str) -> frozenset[int]:
    listed = given if isinstance(given, list) else [given]
    return frozenset(_whole(number, "request number", where, 1) for number in listed)


def _whole(given: object, name: str, where: str, least: int) -> int:
    text = str(given)
    if not text.isdecimal() or int(text) < least:
        raise FaultError(f"{where}: {name} {given!r} isn't a whole number, {least} or more")
    return int(text)


def _value(given: object, kind: Kind, where: str) -> float:
    if kind.unit == COUNT:
        return _whole(given, "value", where, 1)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", str(given))
    if found is None:
        raise FaultError(f"{where}: value {given!r} isn't a duration such as 400ms or 2s")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds >= kind.below:
        raise FaultError(f"{where}: value {given!r} has to be under {kind.below:g} s")
    return seconds


def _nearest(given: str, known: tuple[str, ...]) -> str:
    found = difflib.get_close_matches(given, known, n=1)
    hint = f"; did you mean {found[0]}?" if found else ""
    return f"{hint} (known: {', '.join(known)})"
