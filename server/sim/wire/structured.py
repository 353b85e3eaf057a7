"""Answers that are valid by a JSON schema, as a server gives them that constrains its model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

WORDS = ("the", "and", "for", "sun", "map", "key", "law", "sea")
MOST_LEVELS = 8  # of a schema that refers to itself


def answer_of(schema: Any, whole: Mapping[str, Any], rng: random.Random, level: int = 0) -> Any:
    """Return a value that is valid by a schema; `whole` is where its references point.

    Knows types, properties, items, enumerations, bounds, alternatives and references: of keywords
    that it doesn't know (patterns, say) it takes no notice.
    """
    schema = _resolved(schema, whole)
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind in SCALARS:
        return SCALARS[kind](schema, rng)
    return (_array if kind == "array" else _object)(schema, whole, rng, level)


def _resolved(schema: Any, whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a schema stands for: what it refers to, or the first of its alternatives."""
    for _ in range(MOST_LEVELS):
        if not isinstance(schema, Mapping):
            break
        if "const" in schema:
            return {"enum": [schema["const"]]}
        if isinstance(schema.get("$ref"), str):
            schema = _referred(schema["$ref"], whole)
            continue
        choices = next((schema[k] for k in ("anyOf", "oneOf", "allOf") if schema.get(k)), None)
        if choices is None:
            return schema
        schema = choices[0]
    return {"type": "null"}


def _array(
    schema: Mapping[str, Any], whole: Mapping[str, Any], rng: random.Random, level: int
) -> list[Any]:
    least = schema.get("minItems", 0)
    count = max(least, min(2, schema.get("maxItems", 2))) if level < MOST_LEVELS else least
    items = schema.get("items") or {"type": "null"}
    return [answer_of(items, whole, rng, level + 1) for _ in range(count)]


def _object(
    schema: Mapping[str, Any], whole: Mapping[str, Any], rng: random.Random, level: int
) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    needed = schema.get("required") or ()
    return {
        name: answer_of(part, whole, rng, level + 1)
        for name, part in properties.items()
        if level < MOST_LEVELS or name in needed
    }


def _string(schema: Mapping[str, Any], rng: random.Random) -> str:
    text = " ".join(rng.choices(WORDS, k=2))
    while len(text) < schema.get("minLength", 0):
        text += " " + rng.choice(WORDS)
    return text[: schema.get("maxLength", len(text))]


def _integer(schema: Mapping[str, Any], rng: random.Random) -> int:
    least = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    most = int(schema.get("maximum", schema.get("exclusiveMaximum", least + 101) - 1))
    return rng.randint(least, max(least, most))


SCALARS: dict[str, Callable[[Mapping[str, Any], random.Random], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _integer,
    "boolean": lambda _, rng: rng.random() < 0.5,
    "null": lambda *_: None,
}


def _referred(reference: str, whole: Mapping[str, Any]) -> Any:
    """Return what a reference within the schema points to; None: it isn't there."""
    found: Any = whole
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part) if isinstance(found, Mapping) else None
    return found
