"""A generation request: the values in its JSON body, checked, with defaults."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..model.sums import worked_out
from .errors import ApiError, bad_value, invalid
from .settings import Settings
from .tokens import EOS, chat_prompt
from .vocabulary import Vocabulary, vocabulary

IMAGE_TOKENS = 108  # of 8 x 8 pixels: the shape decides
IMAGE_DIGITS = 12
MARK = re.compile(f"\ue000([0-9a-f]{{{IMAGE_DIGITS}}})\ue001")
CHAT = "chat"
COMPLETIONS = "completions"
RESPONSES = "responses"
# Token ids of any model are accepted: their text is never used.
_LARGEST_VOCABULARY = 1 << 20
_COMPLETION_DEFAULT = 16  # max_tokens of /v1/completions when the request has none

# The types of fields, without prompts; all others have no effect here and may be anything.
_FIELDS: dict[str, type] = {
    "max_tokens": int,
    "max_completion_tokens": int,
    "max_output_tokens": int,
    "min_tokens": int,
    "n": int,
    "seed": int,
    "temperature": float,
    "stream_options": dict,
    "logit_bias": dict,
    "cache_salt": str,
    "priority": int,
    "response_format": dict,
}
# The validator's name and word for each type.
_KINDS = {
    int: ("int_type", "integer"),
    float: ("float_type", "number"),
    dict: ("dict_type", "dictionary"),
    str: ("string_type", "string"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One request for tokens, checked, with every default filled in."""

    endpoint: str
    model: str
    prompt: tuple[int, ...]  # token ids
    max_tokens: int  # what was asked for, as far as the context has room
    min_tokens: int
    ignore_eos: bool
    n: int
    ends_at_once: bool  # a logit bias makes the end-of-text token certain
    seed: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    cache_salt: str | None
    reasoning: bool  # the reply begins with reasoning
    priority: int = 0
    adapter: str | None = None  # the LoRA that was asked for by its name
    schema: Any = None  # that constrains the answer; None: nothing does
    worked_out: str | None = None  # the reply to a sum; None: the usual words
    pictures: tuple[str, ...] = ()  # each one's name by its content


@dataclass(frozen=True, slots=True)
class Identity:
    """The fields that every part of an answer has."""

    answer_id: str
    created: int  # Unix time in seconds
    fingerprint: str


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object in a body. Raises ApiError with the message of vLLM's validator."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        # The decoder counts a newline at the end of a body; the validator doesn't.
        where = f"body.{min(e.pos, len(body.rstrip()))}"
        raise invalid(
            "json_invalid",
            where,
            "JSON decode error",
            "'<dict of 0 items>'",
            ", 'ctx': {'error': 'Expecting value'}",
        ) from None
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", "body", message, repr(value))
    return value


def check_model(body: Mapping[str, Any], settings: Settings) -> str:
    """Return the model's name for the answer; a request may leave it out."""
    name = body.get("model") or settings.name
    if name not in (*settings.served_names, *dict(settings.adapters)):
        aliases = ", ".join(settings.served_names)
        raise ApiError(
            404, f"The model `{name}` does not exist. Valid aliases: {aliases}.", "model"
        )
    return str(name)


def read_request(endpoint: str, body: dict[str, Any], settings: Settings) -> GenerationRequest:
    """Check a body as vLLM does, in the same order, and return its values."""
    options = _stream_options(body)
    field = {CHAT: "messages", RESPONSES: "input"}.get(endpoint, "prompt")
    prompt, pictures = read_prompt(field, body, vocabulary(settings.tokenizer))
    _check_types(body)
    model = check_model(body, settings)
    max_tokens = _max_tokens(endpoint, len(prompt), body, settings)
    _check_ranges(body, max_tokens)
    is_chat = endpoint != COMPLETIONS
    usage = endpoint == RESPONSES or bool(options and options.get("include_usage"))
    thinks = (body.get("chat_template_kwargs") or {}).get("enable_thinking") is not False
    return GenerationRequest(
        endpoint=endpoint,
        model=model,
        prompt=prompt,
        pictures=pictures,
        max_tokens=max_tokens,
        min_tokens=0 if endpoint == RESPONSES else body.get("min_tokens") or 0,
        ignore_eos=bool(body.get("ignore_eos")),
        n=1 if endpoint == RESPONSES else body.get("n") or 1,
        ends_at_once=(body.get("logit_bias") or {}).get(str(EOS), 0) >= 50,
        seed=body.get("seed") or 0,
        stream=bool(body.get("stream")),
        include_usage=usage,
        continuous_usage=usage and bool(options and options.get("continuous_usage_stats")),
        return_token_ids=bool(body.get("return_token_ids")) and endpoint != RESPONSES,
        cache_salt=body.get("cache_salt"),
        reasoning=settings.reasoning and is_chat and thinks,
        priority=body.get("priority") or 0,
        adapter=model if model in dict(settings.adapters) else None,
        schema=_schema(endpoint, body, settings),
        worked_out=worked_out(_last_said(body.get(field))),
    )


def _stream_options(body: Mapping[str, Any]) -> Any:
    options = body.get("stream_options")
    if options and not body.get("stream"):
        raise ApiError(
            400,
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
            "stream_options",
        )
    return options


def _last_said(given: object) -> str:
    """Return a prompt's text, or that of a chat's last message; empty: it is no plain text."""
    last = given[-1] if isinstance(given, list) and given else given
    said = last.get("content") if isinstance(last, dict) else last
    return said if isinstance(said, str) else ""


def _schema(endpoint: str, body: Mapping[str, Any], settings: Settings) -> Any:
    """Return the schema of a `response_format` (`text.format`); None: nothing constrains it.

    As on vLLM, a server that looks for thoughts leaves completions alone: it waits for their end.
    """
    if settings.reasoning and endpoint == COMPLETIONS:
        return None
    field = (body.get("text") or {}).get("format") if endpoint == RESPONSES else None
    asked: Mapping[str, Any] = field or body.get("response_format") or {}
    if asked.get("type") == "json_object":
        return {"type": "object"}
    if asked.get("type") != "json_schema":
        return None
    own = asked if field else asked.get("json_schema")
    if not isinstance(own, dict) or not isinstance(own.get("schema"), dict):
        raise bad_value("response_format", asked, "json_schema needs a name and a schema.")
    return own["schema"]


def read_prompt(
    field: str, body: Mapping[str, Any], words: Vocabulary
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the token ids of a body's prompt, chat or input under the template, and its pictures.

    As vLLM does, a prompt gets the tokenizer's special tokens, and a template's text doesn't.
    """
    given = body.get(field)
    if given is None:
        count = f"'<dict of {len(body)} items>'"
        raise invalid("missing", f"body.{field}", "Field required", count)
    if field == "input":
        own = [{"role": "user", "content": given}] if isinstance(given, str) else given
        system = body.get("instructions")
        opening = [{"role": "system", "content": system}] if system else []
        field, given = "messages", [*opening, *own] if isinstance(own, list) else own
    if field == "messages":
        text = _chat_text(given)
        return _with_images(text, words), tuple(MARK.findall(text))
    if isinstance(given, str):
        special = body.get("add_special_tokens") is not False
        return tuple(words.encode(given, add_special_tokens=special)), ()
    if not isinstance(given, list) or not all(type(token) is int for token in given):
        raise invalid("string_type", "body.prompt", "Input should be a valid string", "'<prompt>'")
    if not given:
        raise ApiError(400, "Either prompt or prompt_embeds must be provided and non-empty.")
    for token in (min(given), max(given)):
        if not 0 <= token < _LARGEST_VOCABULARY:
            raise ApiError(400, f"Token id {token} is out of vocabulary", "prompt")
    return tuple(given), ()


def _chat_text(messages: object) -> str:
    if not isinstance(messages, list):
        raise invalid("list_type", "body.messages", "Input should be a valid list", repr(messages))
    return chat_prompt([_turn(index, message) for index, message in enumerate(messages)])


def _turn(index: int, message: object) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        where = f"body.messages.{index}.role"
        raise invalid("missing", where, "Field required", "'<message>'")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(part) for part in content if isinstance(part, dict))
    return message["role"], "" if content is None else str(content)


def _part(part: Mapping[str, Any]) -> str:
    """Return the text of a typed part; of a picture a mark, which `_with_images` finds again."""
    given = part.get("image_url")
    if given is None:
        return str(part.get("text", ""))
    url = str(given.get("url") if isinstance(given, dict) else given)
    try:
        data = base64.b64decode(url.partition(";base64,")[2], validate=True)
    except binascii.Error:
        data = b""
    if not url.startswith("data:image/") or not data:
        raise ApiError(400, "Failed to load image: Incorrect padding")
    return f"\ue000{hashlib.sha256(data).hexdigest()[:IMAGE_DIGITS]}\ue001"


def _with_images(text: str, words: Vocabulary) -> tuple[int, ...]:
    """Return the token ids of a chat: a picture has as many as a small one has on Idefics3.

    Equal pictures have equal ids, others don't: the prefix cache goes by content, as vLLM's does.
    """
    found: list[int] = []
    for place, piece in enumerate(MARK.split(text)):
        if place % 2:
            first = int(piece, 16)
            found += [(first + n) % _LARGEST_VOCABULARY for n in range(IMAGE_TOKENS)]
        else:
            found += words.encode(piece, add_special_tokens=False)
    return tuple(found)


def _check_types(body: Mapping[str, Any]) -> None:
    for name, wanted in _FIELDS.items():
        value = body.get(name)
        if value is not None and not isinstance(value, (int, float) if wanted is float else wanted):
            kind, word = _KINDS[wanted]
            raise invalid(kind, f"body.{name}", f"Input should be a valid {word}", repr(value))


def _check_ranges(body: Mapping[str, Any], max_tokens: int) -> None:
    n, min_tokens, temperature = (
        body.get(name) or 0 for name in ("n", "min_tokens", "temperature")
    )
    if n < 0:
        raise ApiError(400, f"n must be at least 1, got {n}.")
    if temperature < 0:
        given = float(temperature)
        raise bad_value("temperature", given, f"temperature must be non-negative, got {given}.")
    if min_tokens > max_tokens:
        raise ApiError(
            400,
            f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.",
        )


def _asked_max_tokens(endpoint: str, body: Mapping[str, Any]) -> int | None:
    if endpoint == RESPONSES:
        own: int | None = body.get("max_output_tokens")
        return own
    newer = body.get("max_completion_tokens") if endpoint == CHAT else None
    asked: int | None = newer if newer is not None else body.get("max_tokens")
    return _COMPLETION_DEFAULT if asked is None and endpoint == COMPLETIONS else asked


def _max_tokens(
    endpoint: str, prompt_tokens: int, body: Mapping[str, Any], settings: Settings
) -> int:
    limit, asked = settings.max_model_len, _asked_max_tokens(endpoint, body)
    name = "max_output_tokens" if endpoint == RESPONSES else "max_tokens"
    if asked is not None and asked > limit:
        raise bad_value(
            name,
            asked,
            f"{name}={asked} cannot be greater than max_model_len={limit}."
            " Please request fewer output tokens.",
        )
    if prompt_tokens > limit:
        raise _too_long(limit)
    left = limit - prompt_tokens
    # More than the room left is shortened silently.
    length = left if asked is None else min(asked, left)
    if length < 1:
        raise bad_value("max_tokens", length, f"max_tokens must be at least 1, got {length}.")
    return length


def _too_long(limit: int) -> ApiError:
    # vLLM stops tokenizing one token past the limit, so it knows no more.
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains"
        f" at least {limit + 1} input tokens, which exceeds this limit even without any output"
        " tokens. Please reduce the length of the input prompt. (parameter=input_tokens,"
        f" value={limit + 1})",
        "input_tokens",
    )
