"""What a generation request asks for, as a value, and the reading of its JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .checks import check_fields, check_types
from .errors import ApiError, bad_value, invalid
from .settings import Settings
from .tokens import EOS, chat_prompt, tokenize

CHAT = "chat"
COMPLETIONS = "completions"
# A real model's ids are welcome, whatever its vocabulary: their text is never looked at.
_LARGEST_VOCABULARY = 1 << 20
_COMPLETION_DEFAULT = 16  # max_tokens of /v1/completions when the request names none


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for tokens, checked, with every default filled in."""

    endpoint: str
    model: str
    prompts: tuple[tuple[int, ...], ...]  # token ids; one prompt, unless completions got a list
    max_tokens: tuple[int, ...]  # a prompt each: what the context leaves of what was asked
    asked_max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    n: int
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    include_stop: bool  # the stop string stays in the text
    ends_at_once: bool  # a logit bias makes the end-of-text token certain
    seed: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    stream_interval: int
    cache_salt: str | None
    reasoning: bool  # the reply begins with some
    logprobs: int | None  # how many alternatives a token; None: no log probabilities
    request_id: str | None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(map(len, self.prompts))


@dataclass(frozen=True, slots=True)
class Identity:
    """What every piece of an answer says of itself."""

    answer_id: str
    created: int  # Unix time in seconds
    fingerprint: str


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object in a body, or answer as vLLM's validator does."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        # The decoder counts the newline that ends a body as read; the validator doesn't.
        where = f"body.{min(e.pos, len(body.rstrip()))}"
        raise invalid(
            "json_invalid",
            where,
            "JSON decode error",
            "'<dict of 0 items>'",
            ", 'ctx': {'error': 'Expecting value'}",
        ) from None
    if not isinstance(value, dict):
        given = f"'<list of {len(value)} items>'" if isinstance(value, list) else repr(value)
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", "body", message, given)
    return value


def check_model(body: Mapping[str, Any], settings: Settings) -> str:
    """Return the model's name in answers; a request may leave it out."""
    name = body.get("model") or settings.name
    if name not in settings.served_names:
        aliases = ", ".join(settings.served_names)
        raise ApiError(
            404, f"The model `{name}` does not exist. Valid aliases: {aliases}.", "model"
        )
    return str(name)


def read_ask(endpoint: str, body: dict[str, Any], settings: Settings) -> Ask:
    """Check a body as vLLM does, in its order, and return what it asks for."""
    _check_shape(endpoint, body)
    check_types(body)
    model = check_model(body, settings)
    prompts = _prompts(endpoint, body)
    asked = _asked_max_tokens(endpoint, body)
    lengths = tuple(_max_tokens(len(prompt), asked, settings.max_model_len) for prompt in prompts)
    check_fields(body, min(lengths))
    options = body.get("stream_options") or {}
    usage = bool(options.get("include_usage")) or settings.force_include_usage
    continuous = usage and bool(options.get("continuous_usage_stats"))
    stop = body.get("stop") or ()
    return Ask(
        endpoint=endpoint,
        model=model,
        prompts=prompts,
        max_tokens=lengths,
        asked_max_tokens=asked,
        min_tokens=body.get("min_tokens") or 0,
        ignore_eos=bool(body.get("ignore_eos")),
        n=body.get("n") or 1,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=frozenset(body.get("stop_token_ids") or ()),
        include_stop=bool(body.get("include_stop_str_in_output")),
        ends_at_once=(body.get("logit_bias") or {}).get(str(EOS), 0) >= 50,
        seed=body.get("seed"),
        stream=bool(body.get("stream")),
        include_usage=usage,
        continuous_usage=continuous or settings.force_include_usage,
        return_token_ids=bool(body.get("return_token_ids")),
        # The request may ask for fewer events than the server sends, never for more.
        stream_interval=max(body.get("stream_interval") or 1, settings.stream_interval),
        cache_salt=body.get("cache_salt"),
        reasoning=settings.reasoning and endpoint == CHAT,
        logprobs=_logprobs(endpoint, body),
        request_id=body.get("request_id"),
    )


def chat_tokens(messages: object, add_generation_prompt: bool = True) -> tuple[int, ...]:
    """Return the token ids of a conversation under the chat template."""
    if not isinstance(messages, list):
        raise invalid("list_type", "body.messages", "Input should be a valid list", repr(messages))
    turns = [_turn(index, message) for index, message in enumerate(messages)]
    return tuple(tokenize(chat_prompt(turns, add_generation_prompt)))


def missing(field: str, body: Mapping[str, Any]) -> ApiError:
    """Return the 400 of a body without a field that it needs."""
    return invalid("missing", f"body.{field}", "Field required", f"'<dict of {len(body)} items>'")


def too_long(limit: int) -> ApiError:
    """Return the 400 of a prompt that leaves no room for a token."""
    # vLLM stops tokenizing one token past the limit, so that is all it knows.
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains"
        f" at least {limit + 1} input tokens, which exceeds this limit even without any output"
        " tokens. Please reduce the length of the input prompt. (parameter=input_tokens,"
        f" value={limit + 1})",
        "input_tokens",
    )


def _check_shape(endpoint: str, body: dict[str, Any]) -> None:
    if body.get("stream_options") and not body.get("stream"):
        raise ApiError(
            400,
            "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
            "stream_options",
        )
    needed = "messages" if endpoint == CHAT else "prompt"
    if body.get(needed) is None:
        raise missing(needed, body)


def _turn(index: int, message: object) -> tuple[str, str]:
    where = f"body.messages.{index}"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise invalid("missing", f"{where}.role", "Field required", "'<message>'")
    content = message.get("content")
    if isinstance(content, list):  # typed parts; only text has tokens here
        content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return message["role"], "" if content is None else str(content)


def _prompts(endpoint: str, body: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    if endpoint == CHAT:
        return (chat_tokens(body["messages"], body.get("add_generation_prompt", True)),)
    prompt = body["prompt"]
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    return tuple(_prompt_ids(one) for one in (prompt if several else [prompt]))


def _prompt_ids(prompt: object) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return tuple(tokenize(prompt))
    if isinstance(prompt, list) and all(type(token) is int for token in prompt):
        if not prompt:
            raise ApiError(400, "Either prompt or prompt_embeds must be provided and non-empty.")
        for token in (min(prompt), max(prompt)):
            if not 0 <= token < _LARGEST_VOCABULARY:
                raise ApiError(400, f"Token id {token} is out of vocabulary", "prompt")
        return tuple(prompt)
    raise invalid("string_type", "body.prompt", "Input should be a valid string", "'<prompt>'")


def _asked_max_tokens(endpoint: str, body: dict[str, Any]) -> int | None:
    if endpoint == CHAT and body.get("max_completion_tokens") is not None:
        return _whole("max_completion_tokens", body)
    if body.get("max_tokens") is not None:
        return _whole("max_tokens", body)
    return None if endpoint == CHAT else _COMPLETION_DEFAULT


def _whole(name: str, body: dict[str, Any]) -> int:
    value = body[name]
    if type(value) is not int:
        raise invalid("int_type", f"body.{name}", "Input should be a valid integer", repr(value))
    return value


def _max_tokens(prompt_length: int, asked: int | None, limit: int) -> int:
    if asked is not None and asked > limit:
        raise bad_value(
            "max_tokens",
            asked,
            f"max_tokens={asked} cannot be greater than max_model_len={limit}."
            " Please request fewer output tokens.",
        )
    if prompt_length > limit:
        raise too_long(limit)
    left = limit - prompt_length
    # More than what is left is shortened without a word.
    length = left if asked is None else min(asked, left)
    if length < 1:
        raise bad_value("max_tokens", length, f"max_tokens must be at least 1, got {length}.")
    return length


def _logprobs(endpoint: str, body: dict[str, Any]) -> int | None:
    if endpoint == COMPLETIONS:
        return None if body.get("logprobs") is None else _whole("logprobs", body)
    return (body.get("top_logprobs") or 0) if body.get("logprobs") else None
