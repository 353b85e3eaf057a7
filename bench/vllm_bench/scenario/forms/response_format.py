"""`response_format`: which there are, and what of one is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..mistakes import check_json, nearest, word
from .answer_form import JsonSchema

KINDS = ("json_schema", "json_object")
OF_A_SCHEMA = ("name", "schema", "description", "strict")


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
