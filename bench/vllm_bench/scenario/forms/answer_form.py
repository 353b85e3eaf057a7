"""Whether an answer has the form that `response_format` asks for.

JSON is read strictly (RFC 8259), and a schema by the library jsonschema: no other file is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import orjson

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

        from ..mistakes import word  # which loads pydantic: sending processes do without

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
