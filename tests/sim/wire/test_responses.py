"""/v1/responses as the simulator speaks it, and the marks of thoughts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sim.wire.errors import ApiError
from sim.wire.events import Events
from sim.wire.generation import CHAT, RESPONSES, GenerationRequest, Identity, read_request
from sim.wire.replies import Reply, make_replies
from sim.wire.responses import ResponseEvents, in_one_piece
from sim.wire.settings import Settings, Thinking
from vllm_bench.reply.reply import Reply as ClientsReply

WHO = Identity("resp_1", 1, "fp")
COUNTS = {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}
ITEM = ["output_item.added", "content_part.added"]
ITEM_DONE = ["content_part.done", "output_item.done"]


def settings(parser: str | None = "qwen3", tokens: tuple[int, int] = (3, 3)) -> Settings:
    thinking = Thinking(tokens, parser)
    return Settings("m", ("m",), max_model_len=512, reasoning=True, thinking=thinking)


def asked(
    endpoint: str = RESPONSES, made: Settings | None = None, **body: Any
) -> GenerationRequest:
    limit = "max_output_tokens" if endpoint == RESPONSES else "max_tokens"
    prompt = "input" if endpoint == RESPONSES else "messages"
    own = {limit: 12, "ignore_eos": True, prompt: [{"role": "user", "content": "hi"}], **body}
    return read_request(endpoint, own, made or settings())


def stream_of(ask: GenerationRequest, reply: Reply) -> list[bytes]:
    events = ResponseEvents(ask, WHO)
    parts = [events.begun()]
    parts += [events.tokens(0, reply, at, at + 1) for at in range(len(reply.pieces))]
    return [*filter(None, parts), *events.ending(COUNTS)]


def test_a_stream_has_the_events_of_a_real_one_in_their_order() -> None:
    ask = asked()
    (reply,) = make_replies(ask, settings())
    lines = b"".join(stream_of(ask, reply)).decode().split("\n\n")[:-1]
    names = [line.partition("\n")[0].removeprefix("event: response.") for line in lines]
    said = [json.loads(line.partition("data: ")[2]) for line in lines]
    assert names == [
        *("created", "in_progress"),
        *(*ITEM, *["reasoning_text.delta"] * 3, "reasoning_text.done", *ITEM_DONE),
        *(*ITEM, *["output_text.delta"] * 8, "output_text.done", *ITEM_DONE),
        "completed",
    ]
    assert [event["type"] for event in said] == [f"response.{name}" for name in names]
    assert [event["sequence_number"] for event in said] == list(range(len(said)))
    last = said[-1]["response"]
    assert (last["status"], last["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert [item["type"] for item in last["output"]] == ["reasoning", "message"]
    texts = [item["content"][0]["text"] for item in last["output"]]
    assert texts == [reply.text(0, 3), reply.text(3)]
    assert last == in_one_piece(ask, WHO, reply, COUNTS)


def test_the_client_reads_what_the_simulator_says() -> None:
    ask = asked()
    (reply,) = make_replies(ask, settings())
    client = ClientsReply(stream=True)
    client.feed(200, [(n, part) for n, part in enumerate(stream_of(ask, reply))])
    assert (client.thinking.events, client.visible_events) == (3, 8)  # the mark has no event
    assert (client.finish_reasons, client.done) == ({0: "length"}, True)


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
def test_the_mark_that_ends_a_thought_is_a_token_without_text(parser: str) -> None:
    made = settings(parser)
    (reply,) = make_replies(asked(CHAT, made), made)
    assert (reply.reasoning_tokens, reply.mark, len(reply.pieces)) == (3, 3, 12)
    assert reply.pieces[3] == b""
    alone = Events(asked(CHAT, made, return_token_ids=True), WHO).tokens(0, reply, 3, 4)
    assert json.loads(alone[6:])["choices"][0]["delta"] == {}


def test_without_a_parser_thoughts_are_text() -> None:
    made = settings("none")
    (reply,) = make_replies(asked(CHAT, made), made)
    assert reply.reasoning_tokens == 0
    assert reply.text().startswith("<think>")
    assert "</think>" in reply.text()


def test_a_thought_may_fill_the_whole_reply_and_can_be_turned_off() -> None:
    long = settings(tokens=(50, 50))
    (reply,) = make_replies(asked(CHAT, long), long)
    assert (reply.reasoning_tokens, reply.mark) == (12, None)
    off = asked(CHAT, long, chat_template_kwargs={"enable_thinking": False})
    assert make_replies(off, long)[0].reasoning_tokens == 0


def test_instructions_are_the_system_message_and_a_text_is_the_users() -> None:
    words = asked(input="hi", instructions="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert words.prompt == asked(CHAT, messages=messages).prompt
    assert words.max_tokens == 12
    assert words.include_usage


@pytest.mark.parametrize(
    ("body", "param"),
    [({"input": None}, "body.input"), ({"max_output_tokens": 999}, "max_output_tokens")],
)
def test_mistakes_are_told_by_the_names_of_the_endpoint(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as told:
        asked(**body)
    assert told.value.body["error"]["param"] == param
