"""The answers in one piece, as dictionaries with vLLM's order of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .generation import CHAT, GenerationRequest, Identity
from .replies import Reply
from .settings import Settings
from .vocabulary import Vocabulary


def usage(
    ask: GenerationRequest,
    completion_tokens: int,
    cached_tokens: int | None,
    reasoning_tokens: int | None,
) -> dict[str, Any]:
    """Return the token counts of a stream's last event; None: a detail that isn't shown."""
    prompt_tokens = len(ask.prompt)
    counts: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }
    if cached_tokens is not None:
        details = {"cached_tokens": cached_tokens}
        if ask.endpoint == CHAT:
            details["created_cache_tokens"] = 0
        counts["prompt_tokens_details"] = details
    if reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return counts


def whole_answer(
    ask: GenerationRequest, identity: Identity, replies: Sequence[Reply], counts: dict[str, Any]
) -> dict[str, Any]:
    """Return the body of an answer that isn't streamed."""
    chat = ask.endpoint == CHAT
    choice = _chat_choice if chat else _completion_choice
    details = ("prompt_tokens_details", "completion_tokens_details")
    body: dict[str, Any] = {
        "id": identity.answer_id,
        "object": "chat.completion" if chat else "text_completion",
        "created": identity.created,
        "model": ask.model,
        "choices": [choice(ask, index, reply) for index, reply in enumerate(replies)],
        "service_tier": None,
        "system_fingerprint": identity.fingerprint,
        "usage": {**counts, **{name: counts.get(name) for name in details}},
    }
    if chat:
        ids = ask.prompt if ask.return_token_ids else None
        body |= {"prompt_logprobs": None, "prompt_token_ids": ids, "prompt_text": None}
    return body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


def _chat_choice(ask: GenerationRequest, index: int, reply: Reply) -> dict[str, Any]:
    thought = reply.text(0, reply.reasoning_tokens)
    message = {
        "role": "assistant",
        "content": reply.text(reply.reasoning_tokens) or (None if thought else ""),
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": thought or None,
    }
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": reply.finish_reason,
        "stop_reason": None,
        "token_ids": reply.token_ids if ask.return_token_ids else None,
        "routed_experts": None,
    }


def _completion_choice(ask: GenerationRequest, index: int, reply: Reply) -> dict[str, Any]:
    return {
        "index": index,
        "text": reply.text(),
        "logprobs": None,
        "finish_reason": reply.finish_reason,
        "stop_reason": None,
        "token_ids": reply.token_ids if ask.return_token_ids else None,
        "prompt_logprobs": None,
        "prompt_token_ids": ask.prompt if ask.return_token_ids else None,
        "routed_experts": None,
    }


def models(settings: Settings, created: int) -> dict[str, Any]:
    """Return the body of /v1/models."""
    return {
        "object": "list",
        "data": [
            *(_model(name, settings, created) for name in settings.served_names),
            *(_adapter(name, path, settings, created) for name, path in settings.adapters),
        ],
    }


def _model(name: str, settings: Settings, created: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{name}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": settings.model,
        "parent": None,
        "max_model_len": settings.max_model_len,
        "permission": [permission],
    }


def _adapter(name: str, path: str, settings: Settings, created: int) -> dict[str, Any]:
    """Return the entry of an adapter: its context is the model's, which it names."""
    own = {"root": path, "parent": settings.name, "max_model_len": None}
    return {**_model(name, settings, created), **own}


def tokenized(
    tokens: Sequence[int], max_model_len: int, words: Vocabulary | None
) -> dict[str, Any]:
    """Return the body of /tokenize; with the tokens' strings if their vocabulary is given."""
    return {
        "count": len(tokens),
        "max_model_len": max_model_len,
        "tokens": tokens,
        "token_strs": [words.string(token) for token in tokens] if words else None,
    }
