"""What is wrong with a scenario's settings, in words for people: pydantic's are for programmers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic_core import ErrorDetails

from .load_keys import Conversations


def nearest(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    found = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


# What may be a secret, or hold one, is not echoed.
NOT_ECHOED = ("headers", "extra_body", "api_key_env")
# How a value of several parts is written, by its key.
FORMS = {
    "concurrencies": "a list, as in [1, 8, 64]",
    "request_rates": "a list, as in [0.5, 4]",
    "telemetry_gpus": "a list, as in [0, 1]",
    "conversations": "a mapping, as in {turns: 4, think_time_s: 2}",
    "slo": "a mapping, as in {p99: 500}",  # of its parts; it answers for itself
    "headers": "a mapping, as in {X-Team: blue}",
    "extra_body": "a mapping, as in {top_p: 0.9}",
}
MISSHAPEN = ("list_type", "dict_type", "model_type", "model_attributes_type")


def word(given: object) -> str:
    """Return a name as it stands, or spelled out where it would break the line."""
    return str(given) if str(given).isprintable() else repr(given)


def explain(error: ErrorDetails) -> str:
    """Return a mistake on one line: its key, what it must be, and, unless secret, what it was."""
    key = ".".join(word(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}" + nearest(str(error["loc"][-1]), [*Conversations.model_fields])
    what = _wanted(error)
    if not key:
        return what  # of several keys at once, which it names
    given = str(error["input"])
    if key.startswith(NOT_ECHOED) or (key == "base_url" and "@" in given):
        return f"{key}: {what}"
    # The whole input may be endless.
    return f"{key}: {what} (given: {given[:80]!r})"


def _wanted(error: ErrorDetails) -> str:
    top = error["loc"][0] if error["loc"] else ""
    if error["loc"][-1:] == ("[key]",):
        if top == "slo":
            return "is no percentile: write p50, p95, p99 or p99.9"
        return "is no name: put it in quotes"
    if error["type"] in MISSHAPEN and top in FORMS:
        return f"must be {FORMS[str(top)]}"
    if error["type"] == "string_type":
        return "must be a text: put it in quotes"
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return what[:1].lower() + what[1:]
