"""The events of a stream, key for key as vLLM writes them.

What stays the same for all of a stream's events is joined once. An event that only
brings a text is then three byte strings put together, which is what a server of
25,000 events a second can afford.
"""

from __future__ import annotations

from typing import Any

import orjson

from .ask import CHAT, Ask, Identity
from .logprobs import chat_logprobs, completion_logprobs
from .replies import Reply, json_text

DONE = b"data: [DONE]\n\n"


class Events:
    """Writes the events of one answer; one subclass an endpoint."""

    kind: str  # the value of `object`

    def __init__(self, ask: Ask, identity: Identity) -> None:
        """Join what all events share."""
        self._ask = ask
        self._head = b'data: {"id":"%s","object":"%s","created":%d,"model":"%s","choices":[' % (
            json_text(identity.answer_id),
            self.kind.encode(),
            identity.created,
            json_text(ask.model),
        )
        self._fingerprint = b',"system_fingerprint":"%s"' % identity.fingerprint.encode()
        self._plain = not ask.continuous_usage and not ask.return_token_ids and ask.logprobs is None

    def opening(self, choice: int) -> bytes:
        """Return the event that comes before a choice's first token, if any."""
        return b""

    def tokens(self, choice: int, reply: Reply, start: int, end: int) -> bytes:
        """Return the event that brings the tokens from `start` to before `end`."""
        raise NotImplementedError

    def usage(self, usage: dict[str, Any]) -> bytes:
        """Return the event with the token counts, the last one before [DONE]."""
        return b"".join(
            (self._head, b'],"usage":', orjson.dumps(usage), self._fingerprint, b"}\n\n")
        )

    def _ids(self, tokens: Any) -> bytes:
        return orjson.dumps(list(tokens)) if self._ask.return_token_ids else b"null"

    def _chunk_usage(self, choice: int, completion_tokens: int, reasoning_tokens: int) -> bytes:
        if not self._ask.continuous_usage:
            return b""
        prompt_tokens = len(self._ask.prompts[choice // self._ask.n])
        details = b""
        if self._ask.endpoint == CHAT:
            thought = b'{"reasoning_tokens":%d}' % reasoning_tokens
            details = b',"completion_tokens_details":' + (
                thought if self._ask.reasoning else b"null"
            )
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%s}' % (
            prompt_tokens,
            prompt_tokens + completion_tokens,
            completion_tokens,
            details,
        )

    def _after_choices(self, choice: int, reply: Reply, end: int) -> bytes:
        last = end == len(reply.pieces)
        # The fingerprint rides on the stream's last event: this one, or the usage after it.
        mark = self._fingerprint if last and not self._ask.include_usage else b""
        return b"]" + mark + self._chunk_usage(choice, end, min(end, reply.reasoning_tokens))


class ChatEvents(Events):
    """/v1/chat/completions: a role first, then deltas."""

    kind = "chat.completion.chunk"

    def __init__(self, ask: Ask, identity: Identity) -> None:
        """Join what all chat events share."""
        super().__init__(ask, identity)
        self._content = self._head + b'{"index":%d,"delta":{"content":"'
        self._heads = [self._content % choice for choice in range(ask.n)]
        self._tail = b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'

    def opening(self, choice: int) -> bytes:
        """Return the event with the role."""
        prompt = self._ask.prompts[0]
        return b"".join(
            (
                self._head,
                b'{"index":%d,"delta":{"role":"assistant","content":""},' % choice,
                b'"logprobs":null,"finish_reason":null}]',
                self._chunk_usage(choice, 0, 0),
                b',"prompt_token_ids":%s,"prompt_text":null}\n\n' % self._ids(prompt),
            )
        )

    def tokens(self, choice: int, reply: Reply, start: int, end: int) -> bytes:
        """Return the event that brings the tokens from `start` to before `end`."""
        pieces = reply.pieces
        last = end == len(pieces)
        if self._plain and not last and start >= reply.reasoning_tokens:
            text = pieces[start] if end - start == 1 else b"".join(pieces[start:end])
            return b"".join((self._heads[choice], text, self._tail))
        return b"".join(
            (
                self._head,
                b'{"index":%d,"delta":{%s},"logprobs":' % (choice, _delta(reply, start, end)),
                self._logprobs(reply, start, end),
                finish(reply) if last else b',"finish_reason":null',
                b',"token_ids":%s}' % self._ids(reply.token_ids[start:end]),
                self._after_choices(choice, reply, end),
                b"}\n\n",
            )
        )

    def _logprobs(self, reply: Reply, start: int, end: int) -> bytes:
        if self._ask.logprobs is None:
            return b"null"
        return orjson.dumps(chat_logprobs(reply.token_ids[start:end], self._ask.logprobs))


class CompletionEvents(Events):
    """/v1/completions: texts from the first event on."""

    kind = "text_completion"

    def __init__(self, ask: Ask, identity: Identity) -> None:
        """Join what all completion events share."""
        super().__init__(ask, identity)
        choices = range(ask.n * len(ask.prompts))
        self._heads = [self._head + b'{"index":%d,"text":"' % choice for choice in choices]
        self._tail = (
            b'","logprobs":null,"finish_reason":null,"stop_reason":null,'
            b'"prompt_token_ids":null,"token_ids":null}]}\n\n'
        )
        self._offsets = [0 for _ in choices]  # characters so far, which log probabilities name

    def tokens(self, choice: int, reply: Reply, start: int, end: int) -> bytes:
        """Return the event that brings the tokens from `start` to before `end`."""
        pieces = reply.pieces
        last = end == len(pieces)
        text = pieces[start] if end - start == 1 else b"".join(pieces[start:end])
        if self._plain and not last:
            return b"".join((self._heads[choice], text, self._tail))
        prompt = self._ask.prompts[choice // self._ask.n]
        return b"".join(
            (
                self._heads[choice],
                text,
                b'","logprobs":',
                self._logprobs(choice, reply, start, end),
                finish(reply) if last else b',"finish_reason":null,"stop_reason":null',
                b',"prompt_token_ids":%s' % (b"null" if start else self._ids(prompt)),
                b',"token_ids":%s}' % self._ids(reply.token_ids[start:end]),
                self._after_choices(choice, reply, end),
                b"}\n\n",
            )
        )

    def _logprobs(self, choice: int, reply: Reply, start: int, end: int) -> bytes:
        if self._ask.logprobs is None:
            return b"null"
        tokens = reply.token_ids[start:end]
        figures = completion_logprobs(tokens, self._ask.logprobs, self._offsets[choice])
        self._offsets[choice] += sum(map(len, figures["tokens"]))
        return orjson.dumps(figures)


def finish(reply: Reply) -> bytes:
    """Return the two keys that end a choice."""
    reason = orjson.dumps(reply.stop_reason)
    return b',"finish_reason":"%s","stop_reason":%s' % (reply.finish_reason.encode(), reason)


def events_for(ask: Ask, identity: Identity) -> Events:
    """Return the writer of an endpoint's events."""
    kind = ChatEvents if ask.endpoint == CHAT else CompletionEvents
    return kind(ask, identity)


def _delta(reply: Reply, start: int, end: int) -> bytes:
    border = min(max(reply.reasoning_tokens, start), end)
    parts = []
    if border > start:
        parts.append(b'"reasoning":"%s"' % b"".join(reply.pieces[start:border]))
    if border < end:
        parts.append(b'"content":"%s"' % b"".join(reply.pieces[border:end]))
    return b",".join(parts)
