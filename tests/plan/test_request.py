"""What goes out: the target of a run and the bytes of its requests."""

from __future__ import annotations

import json
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.plan.request import chat_messages, make_body, make_target, tokenized_fields
from vllm_bench.plan.share import PlannedRequest, Target
from vllm_bench.prompts.prompt import Message, Prompt, user_prompt
from vllm_bench.scenario.scenario import Scenario

PROMPT = user_prompt("p1", "How old is the moon?")
TALK = Prompt("p2", (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "…")))


def scenario(**changes: Any) -> Scenario:
    usual: dict[str, Any] = {
        "name": "chat",
        "model": "tiny",
        "max_new_tokens": 16,
        "concurrencies": [1],
        "num_requests": 1,
    }
    return Scenario(**{**usual, **changes})


def body(prompt: Prompt = PROMPT, salt: str | None = None, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(make_body(scenario(**changes), prompt, salt))
    return found


class Received:
    """A request as an HTTP parser that isn't ours reads it."""

    def __init__(self, data: bytes) -> None:
        self.url = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.complete = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method().decode()

    def on_url(self, url: bytes) -> None:
        self.url += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode(), value.decode()))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

    def header(self, name: str) -> str:
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        assert len(values) == 1, f"{name}: {values}"
        return values[0]


def received(
    content: bytes = b"{}", api_key: str | None = None, **changes: Any
) -> tuple[Received, Target]:
    target = make_target(scenario(**changes), api_key)
    request = PlannedRequest(0, "run-0", "p1", content, 16)
    return Received(request.after(target.head())), target


def test_a_chat_request_holds_the_prompts_messages_and_nothing_unasked() -> None:
    assert body() == {
        "model": "tiny",
        "messages": [{"role": "user", "content": PROMPT.text}],
        "max_tokens": 16,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_completions_request_holds_the_prompts_text() -> None:
    found = body(endpoint="completions")
    assert found["prompt"] == PROMPT.text
    assert "messages" not in found


def test_turns_stay_turns() -> None:
    assert [m["role"] for m in body(TALK)["messages"]] == ["user", "assistant", "user"]


def test_the_system_prompt_comes_first() -> None:
    system = {"role": "system", "content": "Be brief."}
    found = chat_messages(scenario(system_prompt="Be brief."), TALK)
    assert found[0] == system
    assert len(found) == 4
    text = body(endpoint="completions", system_prompt="Be brief.")["prompt"]
    assert text == f"Be brief.\n\n{PROMPT.text}"


@pytest.mark.parametrize(
    ("changes", "there", "absent"),
    [
        ({"ignore_eos": True}, {"ignore_eos": True}, ()),
        ({"ignore_eos": False}, {}, ("ignore_eos",)),
        ({"stream": False}, {"stream": False}, ("stream_options",)),
        ({"salt": "s"}, {"cache_salt": "s"}, ()),
        ({"salt": None}, {}, ("cache_salt",)),
        ({"temperature": 1}, {"temperature": 1.0}, ()),
        (
            {"extra_body": {"top_p": 0.9, "chat_template_kwargs": {"thinking": False}}},
            {"top_p": 0.9, "chat_template_kwargs": {"thinking": False}},
            (),
        ),
        ({"extra_body": {"return_token_ids": True}}, {"return_token_ids": True}, ()),
    ],
    ids=str,
)
def test_settings_reach_the_body(
    changes: dict[str, Any], there: dict[str, object], absent: tuple[str, ...]
) -> None:
    found = body(**changes)
    assert {k: found[k] for k in there} == there
    assert not set(absent) & set(found)


@pytest.mark.parametrize(
    ("base_url", "host", "port", "tls", "path", "host_header"),
    [
        ("http://gpu7:8000/v1", "gpu7", 8000, False, "/v1", "gpu7:8000"),
        ("http://gpu7/v1", "gpu7", 80, False, "/v1", "gpu7"),
        ("https://gpu7/v1", "gpu7", 443, True, "/v1", "gpu7"),
        ("https://gpu7:8443/v1", "gpu7", 8443, True, "/v1", "gpu7:8443"),
        ("http://gate/team/a/v1/", "gate", 80, False, "/team/a/v1", "gate"),
        ("http://[::1]:8000/v1", "::1", 8000, False, "/v1", "[::1]:8000"),
        ("https://[2001:db8::2]/v1", "2001:db8::2", 443, True, "/v1", "[2001:db8::2]"),
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, False, "", "127.0.0.1:8000"),
    ],
)
def test_the_base_url_says_where_requests_go(
    base_url: str, host: str, port: int, tls: bool, path: str, host_header: str
) -> None:
    for endpoint, end in (("chat", "/chat/completions"), ("completions", "/completions")):
        got, target = received(base_url=base_url, endpoint=endpoint)
        assert (target.host, target.port, target.tls is not None) == (host, port, tls)
        assert (got.method, got.url) == ("POST", path + end)
        assert got.header("Host") == host_header


def test_each_request_carries_its_id_and_asks_for_an_uncompressed_stream() -> None:
    got, _ = received()
    assert got.header("X-Request-Id") == "run-0"
    assert got.header("Accept-Encoding") == "identity"
    assert got.header("Accept") == "text/event-stream"
    assert got.header("Content-Type") == "application/json"
    assert "authorization" not in [name.lower() for name, _ in got.headers]
    assert received(stream=False)[0].header("Accept") == "application/json"


def test_the_key_goes_as_a_bearer_token() -> None:
    assert received(api_key="sk-1")[0].header("Authorization") == "Bearer sk-1"


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "ACCEPT"])
def test_a_custom_header_replaces_a_default_one_whatever_its_case(name: str) -> None:
    got, _ = received(headers={name: "mine", "X-Team": "a"})
    assert got.header(name) == "mine"
    assert got.header("X-Team") == "a"


@settings(deadline=None)
@given(st.text(min_size=1))
def test_content_length_counts_bytes_whatever_the_text(text: str) -> None:
    content = make_body(scenario(), user_prompt("p", text), None)
    got, _ = received(content)
    assert got.complete
    assert int(got.header("Content-Length")) == len(content) == len(got.body)
    assert json.loads(got.body)["messages"][0]["content"] == text


def test_a_text_beyond_ascii_is_longer_in_bytes_than_in_characters() -> None:
    content = make_body(scenario(), user_prompt("p", "🌙é"), None)
    got, _ = received(content)
    assert int(got.header("Content-Length")) == len(content.decode()) + 4


def test_what_changes_a_prompt_is_told_to_the_tokenizer_too() -> None:
    extra = {"tools": [{"type": "function"}], "add_special_tokens": True, "top_p": 0.5}
    chat = tokenized_fields(scenario(extra_body=extra))
    assert chat == {"tools": extra["tools"], "add_special_tokens": True}
    text = tokenized_fields(scenario(extra_body=extra, endpoint="completions"))
    assert text == {"add_special_tokens": True}
    assert tokenized_fields(scenario()) == {}


def test_a_response_has_its_own_names() -> None:
    found = body(
        TALK, "salt", endpoint="responses", system_prompt="Be brief.", ignore_eos=True, stream=True
    )
    assert found["input"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "…"},
    ]
    assert (found["instructions"], found["max_output_tokens"]) == ("Be brief.", 16)
    assert (found["cache_salt"], found["ignore_eos"], found["stream"]) == ("salt", True, True)
    others = {"messages", "prompt", "max_tokens", "max_completion_tokens", "stream_options"}
    assert not found.keys() & others
    assert "instructions" not in body(endpoint="responses")
    assert make_target(scenario(endpoint="responses"), None).path == "/v1/responses"


def test_a_responses_form_stands_under_text() -> None:
    own = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    found = body(endpoint="responses", response_format=own)
    wanted = {"type": "json_schema", "name": "city", "schema": {"type": "object"}}
    assert found["text"] == {"format": wanted}
    assert "response_format" not in found
    plain = body(endpoint="responses", response_format={"type": "json_object"})
    assert plain["text"] == {"format": {"type": "json_object"}}


def test_a_chat_may_name_its_limit_otherwise() -> None:
    newer = body(max_tokens_field="max_completion_tokens")
    assert newer["max_completion_tokens"] == 16
    assert "max_tokens" not in newer
    assert body()["max_tokens"] == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "completions", "max_tokens_field": "max_completion_tokens"},
        {"endpoint": "responses", "max_tokens_field": "max_completion_tokens"},
        {"endpoint": "responses", "extra_body": {"n": 2}},
        {"endpoint": "responses", "conversations": {"turns": 2}},
        {"extra_body": {"max_output_tokens": 3}},
        {"endpoint": "responses", "extra_body": {"instructions": "x"}},
    ],
)
def test_what_an_endpoint_has_not_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"endpoint|answer|must not set"):
        scenario(**changes)
