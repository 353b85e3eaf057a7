"""The events of a stream, key for key as vLLM writes them.

Most events differ only in their text. Such an event is written once in full and cut at its
text; each next one is then three byte strings joined, fast enough for 25,000 events per
second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from .generation import CHAT, GenerationRequest, Identity
from .replies import Reply

DONE = b"data: [DONE]\n\n"
_CUT = "<here goes a text>"


class Events:
    """Writes the events of one answer."""

    def __init__(
        self, ask: GenerationRequest, identity: Identity, thoughts: str = "reasoning"
    ) -> None:
        """Write for a request; `thoughts` is the key of a delta's."""
        self._ask = ask
        self._is_chat = ask.endpoint == CHAT
        self._thoughts = thoughts
        self._head = {
            "id": identity.answer_id,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": identity.created,
            "model": ask.model,
        }
        self._mark = {"system_fingerprint": identity.fingerprint}
        self._all_alike = not ask.continuous_usage and not ask.return_token_ids
        plain = [self._plain(choice) for choice in range(ask.n)]
        self._around = [(before + b'"', b'"' + after) for before, _, after in plain]

    def opening(self, choice: int) -> bytes | None:
        """Return the event that comes before a choice's first token, if any."""
        if not self._is_chat:
            return None
        delta = {"role": "assistant", "content": ""}
        said = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}
        prompt = {"prompt_token_ids": self._ids(self._ask.prompt), "prompt_text": None}
        return self._event([said], self._usage_so_far(0, 0) | prompt)

    def tokens(self, choice: int, reply: Reply, start: int, end: int) -> bytes:
        """Return the event that brings the tokens from `start` to before `end`."""
        pieces = reply.pieces
        last = end == len(pieces)
        if self._all_alike and not last and start >= reply.reasoning_tokens:
            text = pieces[start] if end - start == 1 else b"".join(pieces[start:end])
            before, after = self._around[choice]
            return b"".join((before, text, after))
        # The stream's last event has the fingerprint: this one, or the usage after it.
        mark = self._mark if last and not self._ask.include_usage else {}
        usage = self._usage_so_far(end, min(end, reply.reasoning_tokens))
        said = self._chat_choice if self._is_chat else self._completion_choice
        return self._event([said(choice, reply, start, end)], mark | usage)

    def begun(self) -> bytes:
        """Return what comes before the engine has the request: nothing."""
        return b""

    def ending(self, counts: dict[str, Any] | None) -> list[bytes]:
        """Return what comes after the last token: the token counts, and [DONE]."""
        usage = [] if counts is None else [self._event([], {"usage": counts} | self._mark)]
        return [*usage, DONE]

    def _plain(self, choice: int) -> tuple[bytes, bytes, bytes]:
        text = orjson.dumps(_CUT)
        middle = Reply([0, 0, 0], [b"", text[1:-1], b""], "length", 0)
        said = self._chat_choice if self._is_chat else self._completion_choice
        return self._event([said(choice, middle, 1, 2)], {}).rpartition(text)

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({**self._head, "choices": choices, **more})

    def _chat_choice(self, choice: int, reply: Reply, start: int, end: int) -> dict[str, Any]:
        border = min(max(reply.reasoning_tokens, start), end)
        delta = {}
        if border > start:
            delta[self._thoughts] = reply.text(start, border)
        # The mark that ends a thought has no text, so an event of it alone says nothing.
        if border < end and (border, end) != (reply.mark, border + 1):
            delta["content"] = reply.text(border, end)
        last = end == len(reply.pieces)
        finish = {"finish_reason": reply.finish_reason, "stop_reason": None}
        return {
            "index": choice,
            "delta": delta,
            "logprobs": None,
            **(finish if last else {"finish_reason": None}),
            "token_ids": self._ids(reply.token_ids[start:end]),
        }

    def _completion_choice(self, choice: int, reply: Reply, start: int, end: int) -> dict[str, Any]:
        return {
            "index": choice,
            "text": reply.text(start, end),
            "logprobs": None,
            "finish_reason": reply.finish_reason if end == len(reply.pieces) else None,
            "stop_reason": None,
            "prompt_token_ids": None if start else self._ids(self._ask.prompt),
            "token_ids": self._ids(reply.token_ids[start:end]),
        }

    def _ids(self, tokens: Sequence[int]) -> Sequence[int] | None:
        return tokens if self._ask.return_token_ids else None

    def _usage_so_far(self, tokens: int, reasoning_tokens: int) -> dict[str, Any]:
        """Return the counts that each event has under `continuous_usage_stats`."""
        if not self._ask.continuous_usage:
            return {}
        prompt = len(self._ask.prompt)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + tokens,
            "completion_tokens": tokens,
        }
        if self._is_chat:
            thought = {"reasoning_tokens": reasoning_tokens} if self._ask.reasoning else None
            usage["completion_tokens_details"] = thought
        return {"usage": usage}
