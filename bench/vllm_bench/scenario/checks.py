"""Checks of values in a scenario: URL, headers, body, label, name of a variable.

Each check returns the value, or raises ValueError that says what it must be. A value that may be a
secret isn't quoted.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import orjson

# Body fields that a scenario key sets; extra_body must not change them.
OWNED_BODY_KEYS = {
    "model": "model",
    "messages": "dataset",
    "prompt": "dataset",
    "stream": "stream",
    "stream_options": "stream",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "temperature": "temperature",
    "ignore_eos": "ignore_eos",
    "cache_salt": "cache",
}
OWNED_HEADERS = {
    "authorization": "api_key_env",
    "content-type": None,
    "content-length": None,
    "transfer-encoding": None,
    "connection": None,
    "accept-encoding": None,
    "host": "base_url",
    "x-request-id": None,
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
    if not _is_json(value):
        raise ValueError(
            "isn't JSON: put keys that are numbers, and dates, in quotes; .nan and .inf don't "
            "exist there"
        )
    return value


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
