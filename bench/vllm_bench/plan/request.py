"""Where requests are sent, and the JSON body of each prompt's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from ..prompts.prompt import Image, Message, Prompt
from ..scenario.scenario import Scenario
from ..vllm.address import Tls
from .dealt.held import held, in_place
from .pool import Piece, Pool, numbered
from .share import Target, Timeouts, salted

MOST_SEED = 2**31  # some servers keep a seed in 32 bits
PATHS = {"chat": "/chat/completions", "completions": "/completions", "responses": "/responses"}
# Fields of a request that change its prompt, and that vLLM's /tokenize takes as well.
TOKENIZED = {
    "chat": (
        *("tools", "chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
        *("media_io_kwargs", "add_generation_prompt", "continue_final_message"),
        "add_special_tokens",
    ),
    "completions": ("add_special_tokens",),
    # Tools of a response are written in another way, which /tokenize doesn't know.
    "responses": ("chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs"),
}
# Those that it doesn't know: its count is then another prompt's.
NOT_TOKENIZED = {
    *("instructions", "reasoning", "previous_response_id", "prompt"),
    *("documents", "reasoning_effort", "suffix", "prompt_embeds", "truncate_prompt_tokens"),
}


def make_target(scenario: Scenario, api_key: str | None) -> Target:
    """Return where the scenario's requests go. The base URL was checked with the scenario."""
    url = urlsplit(scenario.base_url)
    headers = {
        "Host": url.netloc,
        "User-Agent": "vllm-bench",
        "Accept": "text/event-stream" if scenario.stream else "application/json",
        # A compressed stream would be delayed until a block is full.
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
    }
    own = {name.lower() for name in scenario.headers}
    kept = {name: value for name, value in headers.items() if name.lower() not in own}
    return Target(
        host=url.hostname or "",
        port=url.port or (443 if url.scheme == "https" else 80),
        tls=scenario_tls(scenario),
        path=url.path + PATHS[scenario.endpoint],
        headers=tuple({**kept, **scenario.headers}.items()),
        timeouts=Timeouts(
            scenario.timeout_first_token_s, scenario.timeout_stall_s, scenario.timeout_total_s
        ),
        stream=scenario.stream,
    )


def scenario_tls(scenario: Scenario) -> Tls | None:
    """Return how the server's certificate is verified; None: plain HTTP."""
    if urlsplit(scenario.base_url).scheme != "https":
        return None
    return Tls(verify=scenario.tls_verify, ca_file=scenario.tls_ca)


def make_body(
    scenario: Scenario, prompt: Prompt, cache_salt: str | None, max_tokens: int | None = None
) -> bytes:
    """Return the JSON body of a prompt's request, with the scenario's settings."""
    fields = body_fields(scenario, max_tokens or scenario.max_new_tokens)
    body = orjson.dumps({"model": scenario.model, **_input(scenario, prompt), **fields})
    return salted(body, cache_salt)


def make_pool(
    scenario: Scenario,
    prompts: Sequence[Prompt],
    output_tokens: Sequence[int | None] = (),
    *,
    turns: bool = False,
) -> Pool:
    """Return the pieces of these prompts; without `output_tokens` all replies are as long.

    `turns`: of live sessions, whose bodies aren't known before the answers in them.
    """
    if not output_tokens:
        different, order = numbered(held(prompts), id)
        pieces = tuple(make_piece(scenario, prompt, turn=turns) for prompt in different)
        return Pool(pieces, in_place(prompts, order))
    asked = list(zip(held(prompts), held(output_tokens), strict=True))
    pairs, order = numbered(asked, lambda pair: (id(pair[0]), pair[1]))
    pieces = tuple(make_piece(scenario, *pair, turn=turns) for pair in pairs)
    return Pool(pieces, in_place(prompts, order))


def make_piece(
    scenario: Scenario, prompt: Prompt, max_tokens: int | None = None, *, turn: bool = False
) -> Piece:
    """Return what all requests with a prompt have in common."""
    body = b"" if turn else make_body(scenario, prompt, None, max_tokens)
    return Piece(prompt.id, body, max_tokens or scenario.max_new_tokens)


def marked(piece: Piece, prompt: Prompt, own_at: int, word: int) -> Piece:
    """Return a piece that knows its word: behind a blank, where the prompt's own part begins."""
    text, before = (orjson.dumps(part)[1:-1] for part in (prompt.text, prompt.text[:own_at] + " "))
    return dataclasses.replace(piece, mark_at=piece.body.rindex(text) + len(before), mark=word)


def body_fields(scenario: Scenario, max_tokens: int) -> dict[str, Any]:
    """Return a request's JSON without the prompt and the salt."""
    body: dict[str, Any] = {
        "model": scenario.model,
        limit_field(scenario): max_tokens,
        "temperature": scenario.temperature,
        "stream": scenario.stream,
    }
    # The usage of a response comes unasked, and its servers refuse what they don't know.
    if scenario.stream and scenario.endpoint != "responses":
        body["stream_options"] = {"include_usage": True}
    if scenario.ignore_eos:
        body["ignore_eos"] = True
    for key in ("priority", "tools", "tool_choice"):
        if (value := getattr(scenario, key)) is not None:
            body[key] = value
    if scenario.quality is not None:  # nothing but the load may differ between two passes
        body |= {"top_p": 1.0, "seed": scenario.seed % MOST_SEED}
    return {**body, **_form(scenario), **scenario.extra_body}


def _form(scenario: Scenario) -> dict[str, Any]:
    """Return the field that says which form an answer has, as the endpoint takes it."""
    asked = scenario.response_format
    if asked is None:
        return {}
    if scenario.endpoint != "responses":
        return {"response_format": asked}
    # A response has the schema beside its type.
    return {"text": {"format": {"type": asked.get("type"), **(asked.get("json_schema") or {})}}}


def limit_field(scenario: Scenario) -> str:
    """Return the name under which a request says how many tokens it wants at most."""
    return "max_output_tokens" if scenario.endpoint == "responses" else scenario.max_tokens_field


def tokenized_fields(scenario: Scenario) -> dict[str, Any]:
    """Return what /tokenize must be told besides the prompt, to count what a request will have."""
    extra = {**scenario.extra_body, **({"tools": scenario.tools} if scenario.tools else {})}
    return {key: extra[key] for key in TOKENIZED[scenario.endpoint] if key in extra}


def tokenize_body(scenario: Scenario, prompt: Prompt) -> dict[str, Any]:
    """Return what /tokenize is asked about a prompt."""
    return {"model": scenario.model, **_input(scenario, prompt), **tokenized_fields(scenario)}


def chat_messages(scenario: Scenario, prompt: Prompt) -> list[dict[str, Any]]:
    """Return the messages of a chat request, the scenario's system prompt first."""
    system = scenario.system_prompt
    opening = [{"role": "system", "content": system}] if system else []
    return opening + [{"role": m.role, "content": m.sent} for m in prompt.messages]


def completion_text(scenario: Scenario, prompt: Prompt) -> str:
    """Return the text of a completions request, the scenario's system prompt first."""
    return f"{scenario.system_prompt}\n\n{prompt.text}" if scenario.system_prompt else prompt.text


def _input_parts(message: Message) -> str | list[dict[str, Any]]:
    """Return a message's content as /v1/responses takes it."""
    if not message.parts:
        return message.content
    return [
        {"type": "input_image", "image_url": part.url}
        if isinstance(part, Image)
        else {"type": "input_text", "text": part}
        for part in message.parts
    ]


def _input(scenario: Scenario, prompt: Prompt) -> dict[str, Any]:
    if scenario.endpoint == "chat":
        return {"messages": chat_messages(scenario, prompt)}
    if scenario.endpoint == "responses":
        messages = [{"role": m.role, "content": _input_parts(m)} for m in prompt.messages]
        system = scenario.system_prompt
        return {"input": messages, **({"instructions": system} if system else {})}
    return {"prompt": completion_text(scenario, prompt)}
