"""`tools` and `tool_choice` of chat requests, as vLLM takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..mistakes import check_json, nearest, word

CHOICES = ("auto", "none", "required")


def known_tools(value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Check a list of tools: functions with names. Raises ValueError."""
    check_json(value)
    for place, tool in enumerate(value or ()):
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if tool.get("type") != "function" or not isinstance(name, str) or not name:
            wanted = "{type: function, function: {name: …, parameters: …}}"
            raise ValueError(f"entry {place + 1} must be {wanted}")
        assert isinstance(function, dict)
        if not isinstance(function.get("parameters", {}), dict):
            raise ValueError(f"entry {place + 1}: parameters must be a mapping")  # noqa: TRY004
    return value


def known_choice(choice: str | dict[str, Any] | None, tools: Sequence[dict[str, Any]]) -> str:
    """Return what is wrong with a choice among these tools; empty: nothing."""
    if isinstance(choice, str) and choice not in CHOICES:
        known = f"{', '.join(CHOICES)}, or name a function"
        return f"tool_choice must be one of {known}{nearest(choice, CHOICES)}"
    if not isinstance(choice, dict):
        return ""
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        return "tool_choice must be as in {type: function, function: {name: look_up}}"
    names = [tool["function"]["name"] for tool in tools]
    if name in names:
        return ""
    return f"tool_choice: {word(name)} isn't in tools{nearest(name, names)}"
