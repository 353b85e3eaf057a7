"""/v1/responses, key for key as vLLM writes it: items, parts of them, and their deltas.

Each event has its name in a line of its own and in its JSON, and a number. The last one has the
whole response once more, and the usage; there is no [DONE].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from .generation import GenerationRequest, Identity
from .replies import Reply

# The kinds of items: its id's letters, and the type of its part.
THOUGHTS, ANSWER = ("rs", "reasoning_text"), ("msg", "output_text")


class ResponseEvents:
    """Writes the events of one response."""

    def __init__(self, ask: GenerationRequest, identity: Identity) -> None:
        self._ask = ask
        self._identity = identity
        self._numbers = 0  # events so far
        self._open: tuple[str, str] | None = None  # the kind of item that has begun
        self._said = ""  # of it
        self._output: list[dict[str, Any]] = []  # items that have ended
        self._finish = ""

    def begun(self) -> bytes:
        """Return what comes before the engine has the request."""
        response = whole(self._ask, self._identity, [], None, "in_progress")
        names = ("created", "in_progress")
        return b"".join(self._event(f"response.{name}", response=response) for name in names)

    def opening(self, _: int) -> bytes | None:
        return None

    def tokens(self, _: int, reply: Reply, start: int, end: int) -> bytes:
        """Return the events that bring the tokens from `start` to before `end`."""
        border = min(max(reply.reasoning_tokens, start), end)
        events = []
        for kind, text in (
            (THOUGHTS, reply.text(start, border)),
            (ANSWER, reply.text(border, end)),
        ):
            if text:
                events += [*self._switch(kind), self._delta(kind, text)]
        if end == len(reply.pieces):
            self._finish = reply.finish_reason
        return b"".join(events)

    def ending(self, counts: dict[str, Any] | None) -> list[bytes]:
        """Return what comes after the last token."""
        events = self._switch(None)
        usage = None if counts is None else usage_of(counts)
        response = whole(self._ask, self._identity, self._output, usage, self._finish)
        return [*events, self._event("response.completed", response=response)]

    def _switch(self, kind: tuple[str, str] | None) -> list[bytes]:
        """Return the end of the item that is open and the begin of another, if it is another."""
        if kind == self._open:
            return []
        events = [] if self._open is None else self._item_done(self._open)
        self._open, self._said = kind, ""
        return events if kind is None else [*events, *self._item_added(kind)]

    def _item_added(self, kind: tuple[str, str]) -> list[bytes]:
        item = {**self._item(kind), "status": "in_progress"}
        item["content"] = None if kind == THOUGHTS else []
        part: dict[str, Any] = {"text": "", "type": kind[1]}
        if kind == ANSWER:
            part |= {"annotations": [], "logprobs": []}
        return [
            self._event("response.output_item.added", item=item, **self._place(item=False)),
            self._event("response.content_part.added", part=part, **self._place()),
        ]

    def _delta(self, kind: tuple[str, str], text: str) -> bytes:
        self._said += text
        more: dict[str, Any] = {"logprobs": []} if kind == ANSWER else {}
        return self._event(f"response.{kind[1]}.delta", delta=text, **more, **self._place())

    def _item_done(self, kind: tuple[str, str]) -> list[bytes]:
        item = self._item(kind)
        done = [
            self._event(f"response.{kind[1]}.done", text=self._said, **self._place()),
            self._event("response.content_part.done", part=item["content"][0], **self._place()),
            self._event("response.output_item.done", item=item, **self._place(item=False)),
        ]
        self._output.append(item)
        return done

    def _item(self, kind: tuple[str, str]) -> dict[str, Any]:
        return item_of(kind, self._name(kind), self._said)

    def _name(self, kind: tuple[str, str]) -> str:
        return f"{kind[0]}_{self._identity.answer_id.partition('_')[2]}"

    def _place(self, *, item: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = {"output_index": len(self._output)}
        if item and self._open is not None:
            found |= {"content_index": 0, "item_id": self._name(self._open)}
        return found

    def _event(self, name: str, **said: Any) -> bytes:
        body = orjson.dumps({**said, "sequence_number": self._numbers, "type": name})
        self._numbers += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), body)


def item_of(kind: tuple[str, str], name: str, text: str) -> dict[str, Any]:
    """Return an item that has ended."""
    if kind == THOUGHTS:
        part: dict[str, Any] = {"text": text, "type": kind[1]}
        more: dict[str, Any] = {"summary": [], "type": "reasoning", "encrypted_content": None}
    else:
        part = {"annotations": [], "text": text, "type": kind[1], "logprobs": None}
        more = {"role": "assistant", "type": "message", "phase": None}
    return {"id": name, "content": [part], "status": "completed", **more}


def usage_of(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of a response, from a chat's."""
    cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (counts.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": counts["total_tokens"],
    }


def whole(
    ask: GenerationRequest,
    identity: Identity,
    output: Sequence[dict[str, Any]],
    usage: dict[str, Any] | None,
    finish: str,
) -> dict[str, Any]:
    """Return a response; `finish`: its finish_reason, or `in_progress`."""
    cut = {"reason": "max_output_tokens"} if finish == "length" else None
    status = {"in_progress": "in_progress", "length": "incomplete"}.get(finish, "completed")
    return {
        "id": identity.answer_id,
        "created_at": identity.created,
        "incomplete_details": cut,
        "instructions": None,
        "model": ask.model,
        "object": "response",
        "output": output,
        "max_output_tokens": ask.max_tokens,
        "status": status,
        "usage": usage,
    }


def in_one_piece(
    ask: GenerationRequest, identity: Identity, reply: Reply, counts: dict[str, Any]
) -> dict[str, Any]:
    """Return a response that isn't streamed."""
    border = reply.reasoning_tokens
    name = identity.answer_id.partition("_")[2]
    texts = ((THOUGHTS, reply.text(0, border)), (ANSWER, reply.text(border)))
    items = [item_of(kind, f"{kind[0]}_{name}", text) for kind, text in texts if text]
    return whole(ask, identity, items, usage_of(counts), reply.finish_reason)
