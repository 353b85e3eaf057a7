"""OpenTelemetry's spans of any export: OTLP's JSON, a list, `{"spans": […]}`, a span a line.

Attributes have had several names, and values several shapes; here they become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ...prompts.own.rows import TOOL_ROLES
from ...prompts.prompt import Message
from ..session import WaitKind
from .chat import RESULTS, messages_of, text_of
from .fields import MOST_S, Fields, Tally, iso_seconds

LLM = ("chat", "text_completion", "generate_content")  # operations that send a prompt
TOOL = "execute_tool"
FAILED = (2, "2", "ERROR", "STATUS_CODE_ERROR", "StatusCode.ERROR")
OTLP_VALUES = ("stringValue", "intValue", "doubleValue", "boolValue", "arrayValue", "kvlistValue")
# The newest name first.
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
NO_END = "spans without a start and an end"


@dataclass(frozen=True, slots=True)
class Span:
    """A span that sends a prompt or runs a tool, or that others stand in."""

    given: Fields  # its attributes, by their names
    trace: str
    id: str
    parent: str | None
    start_s: float  # since 1970
    end_s: float
    failed: bool

    @property
    def operation(self) -> str:
        """Return the operation; a span with messages and no operation is a chat."""
        found = self.given.given.get("gen_ai.operation.name")
        if isinstance(found, str):
            return found
        prompts = ("gen_ai.input.messages", "gen_ai.prompt", "gen_ai.prompt.0.content")
        return LLM[0] if any(name in self.given.given for name in prompts) else ""

    @property
    def conversation(self) -> str | None:
        return self.given.maybe_name("gen_ai.conversation.id")

    def tokens(self, names: tuple[str, ...]) -> int | None:
        return self.given.maybe_tokens(*names)


def spans_in(given: Fields, tally: Tally) -> Iterator[Span]:
    """Yield the spans of a row, each with its attributes as plain values. Raises SessionError."""
    if "resourceSpans" in given.given:
        for resource in given.objects("resourceSpans"):
            new = "scopeSpans" in resource.given
            for scope in resource.objects("scopeSpans" if new else "instrumentationLibrarySpans"):
                for span in scope.objects("spans"):
                    yield from _span(span, tally)
    elif "spans" in given.given:
        for span in given.objects("spans"):
            yield from _span(span, tally)
    else:
        yield from _span(given, tally)


def _span(given: Fields, tally: Tally) -> Iterator[Span]:
    start_s, end_s = (_time(given, name) for name in ("start", "end"))
    if start_s is None or end_s is None:
        tally.left_out[NO_END] += 1
        return
    inner = given.given.get("context")  # as Python's console exporter has it
    context: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    ids = Fields({**context, **given.given}, given.where)
    parents = ("parent_span_id", "parentSpanId", "parent_id")
    yield Span(
        given=Fields(_attributes(given), given.where),
        trace=_first_name(ids, ("trace_id", "traceId")) or "",
        id=_first_name(ids, ("span_id", "spanId")) or "",
        parent=_first_name(ids, parents) or None,
        start_s=start_s,
        end_s=max(start_s, end_s),
        failed=_failed(given.given.get("status")),
    )


def _first_name(given: Fields, keys: tuple[str, ...]) -> str | None:
    return next((name for key in keys if (name := given.maybe_name(key)) is not None), None)


def _time(given: Fields, name: str) -> float | None:
    """Return a time in seconds since 1970; OTLP has nanoseconds, as a text. None: not there."""
    for key in (f"{name}TimeUnixNano", f"{name}_time_unix_nano"):
        value = given.given.get(key)
        if value is not None:
            digits = str(value) if type(value) in (int, str) else ""
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
                raise given.wrong(key, "nanoseconds since 1970")
            return int(digits) / 1e9 if int(digits) else None
    value = given.given.get(f"{name}_time", given.given.get(f"{name}Time"))
    found = iso_seconds(value)
    if value is not None and (found is None or not 0 <= found <= 10 * MOST_S):
        raise given.wrong(f"{name}_time", "a time such as 2026-02-25T10:00:00.000000Z")
    return found


def _failed(status: object) -> bool:
    if isinstance(status, dict):
        status = status.get("code", status.get("status_code"))
    return status in FAILED if isinstance(status, int | str) else False


def _attributes(given: Fields) -> dict[str, Any]:
    found = given.given.get("attributes")
    if isinstance(found, dict):
        return found
    return {
        pair.name("key"): _value(pair.given.get("value")) for pair in given.objects("attributes")
    }


def _value(value: Any) -> Any:
    """Return OTLP's value as a plain one."""
    if not isinstance(value, dict):
        return value
    kind = next((key for key in OTLP_VALUES if key in value), None)
    found = value.get(kind) if kind else None
    if kind == "intValue" and isinstance(found, str) and found.lstrip("-").isdigit():
        return int(found) if len(found) < 20 else found
    inner = found.get("values") if isinstance(found, dict) else None
    if kind == "arrayValue" and isinstance(inner, list):
        return [_value(one) for one in inner]
    if kind == "kvlistValue" and isinstance(inner, list):
        pairs = (pair for pair in inner if isinstance(pair, dict))
        return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs}
    return found


# Messages


def prompt_of(span: Span, tally: Tally) -> tuple[Message, ...]:
    """Return the messages of a span's prompt; none where they weren't recorded."""
    given = span.given
    messages = messages_of(_messages(given, "gen_ai.input.messages", "gen_ai.prompt"), tally)
    told = _parsed(given.given.get("gen_ai.system_instructions"))
    system = text_of(told, given, tally) if isinstance(told, list | str) else ""
    return (Message("system", system), *messages) if system else messages


def answer_of(span: Span, tally: Tally) -> str | None:
    """Return the text of a span's answer; None: it wasn't recorded."""
    given = span.given
    listed = _messages(given, "gen_ai.output.messages", "gen_ai.completion")
    found = messages_of(listed[:1], tally)  # one choice is what a conversation goes on from
    text = found[0].content if found else given.given.get("gen_ai.output.text")
    return text if isinstance(text, str) and text else None


def cause_of(span: Span) -> WaitKind:
    """Return what a prompt ends with: a tool's result, or a person's words."""
    listed = _messages(span.given, "gen_ai.input.messages", "gen_ai.prompt")
    if not listed:
        return "unknown"
    last = listed[-1].given
    parts = last.get("parts", last.get("content"))
    results = [part.get("type") in RESULTS for part in _objects(parts)]
    if last.get("role") in TOOL_ROLES or any(results):
        return "tool"
    return "think" if last.get("role") == "user" else "unknown"


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _messages(given: Fields, name: str, old: str) -> list[Fields]:
    """Return messages: a list, a text of JSON, or, in old files, an attribute a field."""
    found = _parsed(given.given.get(name, given.given.get(old)))
    if isinstance(found, str) and found and not (name in given.given and found.lstrip()[0] in "[{"):
        found = [{"role": "user", "content": found}]
    if found is None:
        found = _numbered(given.given, old)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise given.wrong(name, "messages with a role and a content")
    where = f"{given.where}: {name}"
    role = "assistant" if name == "gen_ai.output.messages" else "user"
    return [Fields({"role": role, **one}, f"{where}[{n}]") for n, one in enumerate(found)]


def _numbered(given: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what stands under `name.0.role`, `name.0.content`, and so on."""
    found: list[dict[str, Any]] = []
    while True:
        at = f"{name}.{len(found)}."
        keys = {key: given[at + key] for key in ("role", "content") if at + key in given}
        if not keys:
            return found
        calls: list[dict[str, Any]] = []
        while f"{at}tool_calls.{len(calls)}.name" in given:
            call = f"{at}tool_calls.{len(calls)}."
            calls.append({"name": given[call + "name"], "arguments": given.get(call + "arguments")})
        found.append({**keys, "tool_calls": calls} if calls else keys)


def _parsed(value: Any) -> Any:
    """Return what a text of JSON says; other values, and other texts, as they are."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
