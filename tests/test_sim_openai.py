"""A real client is content with the simulator: OpenAI's own package."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.simulated import Simulated

FLAGS = (
    "--exact", "--ttft-ms", "1", "--itl-ms", "0.1", "--model", "m", "--api-key", "key",
    "--reasoning", "--faults", "error_event:#1",
)  # fmt: skip
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        Simulated(*FLAGS) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIError, match="EngineCore"):  # the fault of the first request
            list(client.completions.create(model="m", prompt="x", max_tokens=9, stream=True))
        yield client


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["m"]


def test_a_chat_in_one_piece_and_in_pieces_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m", messages=HELLO, max_completion_tokens=90)
    stream = client.chat.completions.create(
        model="m",
        messages=HELLO,
        max_completion_tokens=90,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    message = whole.choices[0].message
    assert "".join(delta.content or "" for delta in deltas) == (message.content or "")
    thoughts = [getattr(delta, "reasoning", None) for delta in deltas]
    assert "".join(filter(None, thoughts)) == message.model_extra["reasoning"]
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage
    assert last.usage.completion_tokens_details.reasoning_tokens > 0


def test_completions_in_one_piece_and_in_pieces_say_the_same(client: openai.OpenAI) -> None:
    ask = {"model": "m", "prompt": "hello", "max_tokens": 30, "logprobs": 2, "n": 2}
    whole = client.completions.create(**ask)
    texts = ["", ""]
    tokens: list[list[str]] = [[], []]
    for chunk in client.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]
    assert "".join(tokens[0]) == texts[0] + "<|im_end|>" * texts[0].endswith(tokens[0][-2])


def test_a_chat_has_its_log_probabilities(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="m", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
    )
    content = whole.choices[0].logprobs.content
    assert len(content) == 3
    assert all(len(token.top_logprobs) == 2 for token in content)
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in content)


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="m", prompt="x", temperature=-1)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
