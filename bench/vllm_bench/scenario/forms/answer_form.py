"""`response_format`: which there are, and whether an answer has the one that was asked for.

JSON is read strictly (RFC 8259), and a schema by the library jsonschema: no other file is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import orjson

from ..mistakes import check_json, nearest, word

KINDS = ("json_schema", "json_object")
OF_A_SCHEMA = ("name", "schema", "description", "strict")
MOST_ANSWER = 4_000_000  # characters of an answer; a longer one isn't read


class AnswerForm(Protocol):
    """Says whether an answer's text has the form that was asked for."""

    def holds(self, text: str) -> bool: ...


class JsonObject:
    """Any JSON object."""

    def holds(self, text: str) -> bool:
        return isinstance(json_of(text), dict)


class JsonSchema:
    """JSON that is valid by a schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raises ValueError where it is no schema, or refers to what isn't in it."""
        import jsonschema
        import referencing
        from referencing.jsonschema import DRAFT202012

        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as e:
            where = ".".join(map(str, e.absolute_path)) or "the whole"
            raise ValueError(f"isn't a JSON schema: {word(where)}: {word(e.message)}") from e
        whole = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
        registry = referencing.Registry().with_resource("", whole)  # which fetches nothing
        resolver = registry.resolver_with_root(whole)
        for ref in references(schema):
            try:
                resolver.lookup(ref)
            except referencing.exceptions.Unresolvable as e:
                raise ValueError(f"refers to {word(ref)}, which isn't in the schema") from e
        self._validator = kind(schema, registry=registry)

    def holds(self, text: str) -> bool:
        found = json_of(text)
        try:
            return found is not NO_JSON and bool(self._validator.is_valid(found))
        except RecursionError:  # nested deeper than anybody reads
            return False


NO_JSON = object()


def json_of(text: str) -> Any:
    """Return what a text says as JSON; `NO_JSON` where it isn't JSON."""
    if len(text) > MOST_ANSWER:
        return NO_JSON
    try:
        return orjson.loads(text)
    except ValueError:
        return NO_JSON


def references(schema: object) -> Iterator[str]:
    """Yield what a schema refers to."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def form_of(response_format: Mapping[str, Any]) -> AnswerForm:
    """Return the form that a checked `response_format` asks for."""
    if response_format["type"] == "json_object":
        return JsonObject()
    return JsonSchema(response_format["json_schema"]["schema"])


def known_format(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Check a `response_format`, as vLLM takes it. Raises ValueError."""
    if value is None:
        return None
    check_json(value)
    kind = value.get("type")
    if kind not in KINDS:
        raise ValueError(f"must have a type of {', '.join(KINDS)}{nearest(str(kind), KINDS)}")
    _refuse_others(value, ("type", *([kind] if kind == "json_schema" else [])), "")
    if kind == "json_object":
        return value
    own = value.get("json_schema")
    if not isinstance(own, dict):
        raise ValueError("json_schema must be a mapping with name and schema")  # noqa: TRY004
    _refuse_others(own, OF_A_SCHEMA, "json_schema.")
    if not isinstance(own.get("name"), str) or not own["name"]:
        raise ValueError("json_schema.name must be a text: vLLM needs one")
    if not isinstance(own.get("schema"), dict):
        raise ValueError("json_schema.schema must be a mapping")  # noqa: TRY004
    try:
        JsonSchema(own["schema"])
    except ValueError as e:
        raise ValueError(f"json_schema.schema {e}") from e
    return value


def _refuse_others(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{where}{word(key)} isn't known{nearest(str(key), known)}")
