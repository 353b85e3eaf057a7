"""What is secret, and that no echo of it is shown."""

from __future__ import annotations

import base64
import html
import json
import shlex
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.text import MOST_MASKED, masked, printable
from vllm_bench.scenario.echoes import PIECE
from vllm_bench.scenario.secrets import (
    is_secret_key,
    masked_settings,
    masked_words,
    secret_texts,
    secrets_of,
    url_secrets,
)

from tests.plan.test_request import scenario

WORDS = "The key sk-live-4711abcd of team blue is not valid."


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "ssl_keyfile_password", "--ssl-keyfile-password", "dbPassword"),
        *("passphrase", "passwd", "api_key", "apiKey", "API-KEY", "apikey", "x-api-key", "key"),
        *("token", "hf_token", "HF_TOKEN", "accessToken", "access_tokens", "authtoken"),
        *("session_token", "secret", "client_secret", "AWS_SECRET_ACCESS_KEY", "credentials"),
        *("Authorization", "proxy-authorization", "Cookie", "Set-Cookie", "auth", "X-Auth"),
        *("private_key", "signature", "jwt", "bearer", "github_pat", "--api_k", "--HF_T"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_key(name)


@pytest.mark.parametrize(
    "name",
    [
        *("max_tokens", "min_tokens", "max_completion_tokens", "tokenizer", "tokenizer_mode"),
        *("skip_special_tokens", "add_special_tokens", "spaces_between_special_tokens"),
        *("stop_token_ids", "return_token_ids", "return_tokens_as_token_ids", "detokenize"),
        *("--max-num-batched-tokens", "num_speculative_tokens", "allowed_token_ids", "eos_token"),
        *("truncate_prompt_tokens", "bos_token_id", "thinking_token_budget", "keywords"),
        *("--api-server-count", "top_p", "model", "author", "tokenization", "prompt_tokens"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_key(name)


def hidden(text: str, *secrets: str) -> str:
    return masked(text, secret_texts(secrets, {}))


@pytest.mark.parametrize(
    ("value", "echo"),
    [
        ("sk-live-4711abcd", "got sk-live-4711abcd!"),
        ("sk-live-4711abcd", "got SK-LIVE-4711ABCD!"),
        ("two  blanks here", "got two blanks here!"),
        ("two blanks here", "got two   blanks\n here!"),
        ("two  blanks here", "got two++blanks+here!"),
        ("two  blanks here", "got two+blanks+here!"),
        ("Bearer sk-live-4711abcd", "got sk-live-4711abcd!"),
        ("Bearer sk-live-4711abcd", "got Bearer  sk-live-4711abcd!"),
        ("p@ss/w+rd=1?", "got p%40ss%2Fw%2Brd%3D1%3F!"),
        ("p@ss/w+rd=1?", "got p%2540ss%252Fw%252Brd%253D1%253F!"),
        ('quo"te\\back', 'got quo\\"te\\\\back!'),
        ('quo"te\\back', 'got quo\\\\\\"te\\\\\\\\back!'),
        ("a<b>&'c'd\"ef", "got a&lt;b&gt;&amp;&#x27;c&#39;d&quot;ef!"),
        ("schlüssel🔑wort", "got schl\\u00fcssel\\ud83d\\udd11wort!"),
        ("schlüssel🔑wort", "got schl%C3%BCssel%F0%9F%94%91wort!"),
        ("sk-live-4711abcd", "got \\x73k-live-4711abcd!"),
        ("sk-live-4711abcd", "got \u200bsk-\u200blive-4711abcd!"),
        ("sk-live-4711abcd", f"got {b'sk-live-4711abcd'.hex()}!"),
        ("Basic dXNlcjpodW50ZXIyMg==", "got user:hunter22!"),
        ("Basic dXNlcjpodW50ZXIyMg==", "got hunter22!"),
    ],
)
def test_an_echo_in_other_words_is_masked(value: str, echo: str) -> None:
    shown = hidden(echo, value)
    assert shown.startswith("got")
    assert shown.endswith("!")
    assert set(shown[3:-1].replace("Bearer", "")) <= {"*", " ", "\u200b"}


@pytest.mark.parametrize("user", ["", "u:", "me:", "user:", "Bearer "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_in_base64_after_a_user_is_masked(
    user: str, encode: Callable[[bytes], bytes]
) -> None:
    key = "sk-live->?4711~~abcd"
    shown = hidden(f"got {encode((user + key).encode()).decode()}!", key)
    assert "***" in shown
    assert len(shown) < len("got ***!") + len(user) * 4 // 3 + 8


ESCAPES: list[Callable[[str], str]] = [
    str,
    str.upper,
    str.lower,
    urllib.parse.quote,
    urllib.parse.quote_plus,
    lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    lambda s: urllib.parse.quote(urllib.parse.quote(s)),
    lambda s: json.dumps(s)[1:-1],
    lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1],
    lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    html.escape,
    lambda s: "".join(f"&#{ord(c)};" for c in s),
    lambda s: s.replace(" ", "   "),
    lambda s: "\n ".join(s.split(" ")),
    lambda s: repr(s)[1:-1],
]
ASCII = st.characters(min_codepoint=32, max_codepoint=126)
SECRETS = st.text(ASCII, min_size=8, max_size=60).map(str.strip).filter(lambda s: len(s) >= 8)
AROUND = st.text(st.sampled_from("abc {}[]:,.%&\\\"'\n"), max_size=30)


def small(text: str) -> str:
    return " ".join(text.split()).lower()


def pieces(secret: str) -> set[str]:
    whole = small(secret)
    return {whole[at : at + PIECE] for at in range(len(whole) - PIECE + 1)}


@pytest.mark.fuzz
@given(SECRETS, st.sampled_from(ESCAPES), AROUND, AROUND, st.integers(0, 80), st.integers(0, 80))
def test_no_piece_of_a_secret_is_shown_however_it_is_echoed_and_cut(
    secret: str, escape: Callable[[str], str], before: str, after: str, begin: int, end: int
) -> None:
    echo = before + escape(secret)[begin:] + after
    shown = small(printable(hidden(echo[: len(echo) - end], secret), 500))
    assert not {piece for piece in pieces(secret) if piece in shown}


@pytest.mark.fuzz
@given(SECRETS, st.sampled_from(ESCAPES), AROUND, AROUND, st.integers(0, 80))
def test_a_text_in_plain_ascii_is_searched_as_any_other(
    secret: str, escape: Callable[[str], str], before: str, after: str, begin: int
) -> None:
    echo = before + escape(secret)[begin:] + after
    plain, other = hidden(echo, secret), hidden(echo + " \N{SNOWMAN}", secret)
    assert other.removesuffix(" \N{SNOWMAN}") == plain


@pytest.mark.fuzz
@given(SECRETS)
def test_of_an_uncut_echo_nothing_is_left(secret: str) -> None:
    assert hidden(f"<{secret}>", secret) in ("<***>", "<***")


def test_what_is_no_secret_stays_readable() -> None:
    headers = {"Accept": "text/event-stream, */*", "X-Kind": "application/json", "X-Priority": "1"}
    assert secret_texts([], headers, {"top_p": 0.9, "stop": ["token"], "tools": [TOOL]}) == ()
    assert masked(WORDS, ()) == WORDS
    assert hidden("Basic and Bearer are schemes", "Bearer sk-live-1") == (
        "Basic and Bearer are schemes"
    )


TOOL = {
    "type": "function",
    "function": {"parameters": {"properties": {"password": {"type": "string", "minLength": 8}}}},
}


def test_secrets_are_keys_headers_and_values_of_a_body_whose_names_say_so() -> None:
    body = {
        "metadata": {"api_key": "inner-key-1", "kind": "open"},
        "credentials": {"user": "user-name", "more": [{"x": "listed-1"}, 123456]},
        "top_k": 20,
    }
    own = scenario(api_key_env="MY_KEY", headers={"X-Team": "blue", "Cookie": "sid=abc123; dark=1"})
    found = secrets_of(
        own.model_copy(update={"extra_body": body}),
        {"MY_KEY": "sk-mine", "HF_TOKEN": "hf_mine", "OTHER": "other-1"},
    )
    assert {"sk-mine", "hf_mine", "blue", "abc123", "inner-key-1", "user-name", "listed-1"} < {
        *found
    }
    assert "123456" in found
    assert not {"open", "other-1", "20"} & {*found}
    assert list(found) == sorted(found, key=len, reverse=True)


def test_saved_settings_show_no_secret_and_all_else(tmp_path: Any) -> None:
    given_body = {
        "api_key": "s3cret",
        "max_tokens_extra": 5,
        "nested": [{"Password": "s3cret", "auth": {"a": ["s3cret", None]}}],
        "tools": [TOOL],
        "skip_special_tokens": False,
    }
    shown = masked_settings(given_body)
    assert "s3cret" not in str(shown)
    assert shown["nested"][0]["auth"] == {"a": ["***", None]}
    same = ("max_tokens_extra", "tools", "skip_special_tokens")
    assert {key: shown[key] for key in same} == {key: given_body[key] for key in same}
    found = scenario(extra_body={"metadata": {"token": "s3cret"}}, headers={"X-A": "s3cret"})
    assert "s3cret" not in str(found.masked())


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://gpu7:9400/metrics", set()),
        ("http://gpu7:9400/metrics?gpu=0&token=t0psecret", {"t0psecret"}),
        ("http://me:p%40ssword@gpu7/x", {"p@ssword"}),
    ],
)
def test_secrets_of_a_url(url: str, found: set[str]) -> None:
    assert set(url_secrets(url)) == found


@pytest.mark.parametrize(
    "words",
    [
        "--ssl-keyfile-password s3cret",
        "--ssl-keyfile-password=s3cret",
        "--ssl-keyfile-password -s3cret",
        "--api-key s3cret more-s3cret --seed 1",
        "-O key=s3cret",
        "-Okey=s3cret",
        "--hf-token 's3cret with blanks'",
        "--env PASSWORD=s3cret",
        '--x \'{"a": {"apiKey": "s3cret"}}\'',
        "-H 'Authorization: Bearer s3cret'",
        "-H 'Bearer s3cret'",
        "--url https://me:s3cret@host/x",
        "--url 'https://host/x?a=1&token=s3cret'",
        "--redis redis://:s3cret@host",
    ],
)
def test_a_commands_words_show_no_secret(words: str) -> None:
    shown = list(masked_words(shlex.split(words)))
    assert "s3cret" not in str(shown)
    assert "***" in str(shown)
    assert [word for word in shown if word.startswith("--seed")] == ["--seed"] * ("seed" in words)


def test_a_long_text_costs_time_by_its_shown_part_alone() -> None:
    def took(length: int) -> float:
        began = time.process_time()
        masked("x%41" * (length // 4), ("sk-live-4711abcd",))
        return time.process_time() - began

    assert len(masked("y" * 10**7, ("sk-live-4711abcd",))) == MOST_MASKED
    assert took(10**7) < 20 * max(took(MOST_MASKED), 0.01)
