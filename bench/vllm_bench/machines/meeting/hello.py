"""The first word on a connection: who comes, in JSON, since a pickle is for the same code alone."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ..messages import Hello, Kind, MachineFacts

KINDS: tuple[Kind, ...] = ("orders", "results", "clock")  # a foreman's connections
WELCOME, ENOUGH, NO = b"welcome", b"enough", b"no"  # the word that a hello is answered with
NEWCOMER_S = 10.0  # to prove who one is, on either side
MOST_BYTES = 1 << 20


class MisfitError(Exception):
    """Who comes would understand another thing by the same words; the text is for people."""


def hello_text(hello: Hello) -> bytes:
    """Return it as it goes over the connection."""
    return json.dumps(dataclasses.asdict(hello)).encode()


def hello_of(text: bytes, ours: MachineFacts) -> Hello:
    """Read what somebody who knows the key has said; `ours`: what this machine is.

    Raises ValueError where it is no hello, MisfitError.
    """
    try:
        told = json.loads(text)
        facts = dict(told.pop("facts"))
        host, code, python = (str(facts[name]) for name in ("host", "code", "python"))
    except (AttributeError, KeyError, TypeError, RecursionError) as e:
        raise ValueError("it isn't a hello") from e
    if code != ours.code:
        raise MisfitError(f"{host} has another version of this project's code: bring both to one")
    if python.rsplit(".", 1)[0] != ours.python.rsplit(".", 1)[0]:
        raise MisfitError(f"{host} has Python {python}, and here is {ours.python}")
    try:
        hello = Hello(facts=MachineFacts(**{k: _frozen(v) for k, v in facts.items()}), **told)
    except TypeError as e:
        raise ValueError("it isn't a hello") from e
    if hello.kind not in KINDS or not isinstance(hello.foreman, str):
        raise ValueError("it isn't a hello")
    return hello


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
