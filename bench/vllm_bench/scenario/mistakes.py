"""What is wrong with a scenario's settings, for people: pydantic's messages are for programmers.

A check returns the value, or raises ValueError that says what it must be. A value that may be a
secret isn't quoted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic_core import ErrorDetails

from .nested.groups import Conversations, Prefix, Quality, ToolCalls

NESTED = (Conversations, ToolCalls, Prefix, Quality)  # keys within a key


def nearest(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    found = difflib.get_close_matches(given[:64], list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


# Values that may be or contain secrets aren't quoted.
NOT_ECHOED = ("headers", "extra_body", "api_key_env")
MOST_NAME = 80
PLAIN = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a smaller number",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "string_pattern_mismatch": "must be at most 64 letters, digits, _, . and -, with a letter or "
    "digit first",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
MISSHAPEN = ("list_type", "dict_type", "model_type", "model_attributes_type")


def word(given: object) -> str:
    """Return a name's beginning, spelled out if it would break the line."""
    name = str(given)[:MOST_NAME]
    return name if name.isprintable() else repr(name)


def unknown(kind: str, given: object, known: Collection[str]) -> str:
    """Return `unknown key X`, with the nearest one that is known, or else with all of them."""
    hint = nearest(str(given), known) or f"; known {kind}s: {', '.join(known)}"
    return f"unknown {kind} {word(given)}{hint}"


def explain(error: ErrorDetails, examples: Mapping[str, object]) -> str:
    """Return a mistake on one line: its key, what it must be, and what it was, unless secret.

    `examples` has a valid value of each key.
    """
    key = ".".join(word(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        known = [k for keys in NESTED for k in keys.model_fields]
        return f"unknown key {key}{nearest(str(error['loc'][-1]), known)}"
    what = _wanted(error, examples)
    if not key:
        return what  # a mistake of several keys, which the message names
    given = str(error["input"])
    if key.startswith("classes") and not isinstance(error["input"], str | int | float):
        return f"{key}: {what}"  # a class's headers may be in it
    if key.startswith(NOT_ECHOED) or (key == "base_url" and not {*given}.isdisjoint("@?#")):
        return f"{key}: {what}"
    # The input may be very long.
    return f"{key}: {what} (given: {given[:80]!r})"


def _wanted(error: ErrorDetails, examples: Mapping[str, object]) -> str:
    top = str(error["loc"][0]) if error["loc"] else ""
    in_slo = top in ("slo", "slo_tiers")
    if error["loc"][-1:] == ("[key]",):
        if in_slo and len(error["loc"]) > len(("slo_tiers", "a tier", "[key]")):
            return "isn't a percentile: write p50, p95, p99 or p99.9"
        if error["type"] == "string_pattern_mismatch":
            return "a class's name has at most 32 letters, digits, _ and -, a letter first"
        return "isn't a name: put it in quotes"
    if error["type"] in MISSHAPEN:
        # A part of slo is wrong: its message says which.
        example = {"p99": 500} if in_slo and len(error["loc"]) > 1 else examples[top]
        kind = "a list" if isinstance(example, list) else "a mapping"
        return f"must be {kind}, as in {example}".replace("'", "")
    if error["type"] == "string_type":
        return "must be a text: put it in quotes"
    return _plain(error)


def _plain(error: ErrorDetails) -> str:
    """Return what a value must be; the library's own words are for programmers."""
    known, ctx = PLAIN.get(error["type"]), error.get("ctx") or {}
    if known is None:
        what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        return what[:1].lower() + what[1:]
    ctx = {k: f"{v:g}" if isinstance(v, float) else v for k, v in ctx.items()}
    ctx = {**ctx, "expected": str(ctx.get("expected", "")).replace("'", "").replace(" or ", ", ")}
    choices = ctx["expected"].split(", ") if ctx["expected"] else ()
    return known.format(**ctx) + nearest(str(error["input"]), choices)


# ---- checks of values ----

# Body fields that a scenario key sets; extra_body must not change them.
OWNED_BODY_KEYS = {
    **{key: key for key in ("model", "stream", "temperature", "ignore_eos")},
    **dict.fromkeys(("messages", "input", "prompt"), "dataset"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), "max_new_tokens"),
    **{"instructions": "system_prompt", "stream_options": "stream", "cache_salt": "cache"},
}
OWNED_HEADERS: dict[str, str | None] = {
    **{"authorization": "api_key_env", "host": "base_url"},
    **dict.fromkeys(("content-type", "content-length", "transfer-encoding", "connection")),
    **dict.fromkeys(("accept-encoding", "x-request-id", "traceparent")),
}


def usable_url(value: str) -> str:
    """Check a server's base URL; return it without a slash at its end."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must have only ASCII characters, no blanks")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://HOST[:PORT]/v1 or https://…")
    if not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
        raise ValueError("has an impossible host name")
    if parts.username is not None:
        raise ValueError("must not contain a user name or password: use api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    _ = parts.port  # raises ValueError where it is not a port
    return value.rstrip("/")


def sendable_headers(value: dict[str, str]) -> dict[str, str]:
    """Check names and values of a scenario's own headers."""
    for name, text in value.items():
        if name.lower() in OWNED_HEADERS:
            use = OWNED_HEADERS[name.lower()]
            raise ValueError(f"must not set {name}" + (f": use the key {use}" if use else ""))
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"has an impossible header name {name!r}")
        if not text.isascii() or not text.isprintable():
            raise ValueError(f"has a value for {name} that isn't printable ASCII")
    return value


def sendable_body(value: dict[str, Any]) -> dict[str, Any]:
    """Check the fields that a scenario adds to each request's body."""
    for key in value:
        if key in OWNED_BODY_KEYS:
            raise ValueError(f"must not set {key}: use the key {OWNED_BODY_KEYS[key]}")
    n = value.get("n")
    if n is not None and (type(n) is not int or n < 1):
        raise ValueError("has an n that isn't a whole number, 1 or more")
    check_json(value)
    return value


def check_json(value: object) -> None:
    """Raise ValueError where a value from YAML can't be sent as JSON."""
    if not _is_json(value):
        raise ValueError(
            "isn't JSON: put keys that are numbers, and dates, in quotes; .nan and .inf don't "
            "exist there"
        )


def _is_json(value: object) -> bool:
    """Whether a value from YAML can be sent unchanged as JSON."""
    try:
        return bool(orjson.loads(orjson.dumps(value)) == value)
    except TypeError:
        return False


def short_word(value: str) -> str:
    """Check a word that becomes part of file names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", value):
        raise ValueError(
            "must be at most 32 letters, digits, _, . and -, with a letter or digit first"
        )
    return value


def variable_name(value: str) -> str:
    """Check the name of an environment variable: a key put there by mistake isn't one."""
    if not (value.isascii() and value.isidentifier()):
        raise ValueError("must be the name of an environment variable, not the key itself")
    return value
