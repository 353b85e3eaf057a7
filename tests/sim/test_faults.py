"""Faults: how they are written, whom they strike, what a client gets, what the truth says."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.faults import KINDS, Fault, FaultError, fault_of, read_faults
from sim.faulty import REWRITES

from tests.sim.simulated import Simulated, events, read_counters
from tests.support.beside.waiting import LIMIT_S

FLAGS = ("--exact", "--ttft-ms", "1", "--itl-ms", "0.2")

# Which request plays it is its place here, from 1.
PLAYED = (
    "http_400", "http_401", "http_404", "http_429", "http_500", "http_503", "error_event@3",
    "no_done@3", "cut@3", "reset@3", "stall@3=1ms", "malformed@3", "split_bytes", "split_utf8",
    "merge=4", "crlf", "comments", "no_usage", "short=2", "long=3",
    "claim=1000", "claim_prompt=7", "all_in_one", "no_tokens", "only_thinks", "other_model",
    "ignore_salt", "busy_event", "lone_cr", "heartbeats", "without_done", "ignore_schema",
)  # fmt: skip
TOKENS = 10


@pytest.fixture(scope="module", params=[True, False], ids=["streamed", "whole"])
def played(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a client got of each fault: an httpx answer, or the error that it met; and the truth."""
    spec = ", ".join(
        f"{kind}:#{i}{rest}"
        for i, (kind, rest) in enumerate(map(split_kind, PLAYED), start=1)
    )  # fmt: skip
    ask = {"prompt": "hello", "max_tokens": TOKENS, "ignore_eos": True, "stream": request.param}
    if request.param:
        ask["stream_options"] = {"include_usage": True}
    got: dict[str, Any] = {"streamed": request.param}
    with Simulated(*FLAGS, "--faults", spec) as server:
        for name in PLAYED:
            headers = {"X-Request-Id": name}
            try:
                got[name] = server.client.post("/v1/completions", json=ask, headers=headers)
            except httpx.TransportError as e:
                got[name] = e
        got["sound"] = server.client.post("/v1/completions", json=ask)
        got["truth"] = {record["request_id"]: record for record in server.truth()}
    return got


def split_kind(fault: str) -> tuple[str, str]:
    """('cut', '@3') of 'cut@3': where the request's number goes in between."""
    for mark in "@=":
        if mark in fault:
            return fault[: fault.index(mark)], fault[fault.index(mark) :]
    return fault, ""


def test_every_kind_is_played_here_or_below() -> None:
    elsewhere = {"silent", "slow_ready", "crash", "stand_still", "idle_engine", "transferred"}
    elsewhere |= {"garbled", "reworded"}
    assert {split_kind(name)[0] for name in PLAYED} | elsewhere == set(KINDS)


def text_of(answer: httpx.Response) -> str:
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["text"])
    chunks = [event for event in events(answer.text) if event != "[DONE]"]
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def test_truth_names_the_fault_of_each_request(played: dict[str, Any]) -> None:
    truth = played["truth"]
    for name in PLAYED:
        assert truth[name]["outcome"] == split_kind(name)[0]


def test_refusals_have_their_status_and_vllms_bodies(played: dict[str, Any]) -> None:
    for name in PLAYED[:6]:
        answer = played[name]
        assert answer.status_code == int(name.removeprefix("http_"))
        if name == "http_401":
            assert answer.json() == {"error": "Unauthorized"}
        else:
            assert answer.json()["error"]["code"] == answer.status_code
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_dead_engine_is_an_error_event_or_a_500(played: dict[str, Any]) -> None:
    answer = played["error_event@3"]
    if not played["streamed"]:
        assert answer.status_code == 500
        return
    *tokens, error, done = events(answer.text)
    assert answer.status_code == 200
    assert len(tokens) == 3
    assert error["error"]["code"] == 500
    assert done == "[DONE]"


def test_a_full_queue_is_an_error_event_or_a_503(played: dict[str, Any]) -> None:
    answer = played["busy_event"]
    assert answer.status_code == (200 if played["streamed"] else 503)
    error = events(answer.text)[0] if played["streamed"] else answer.json()
    assert error["error"]["code"] == 503


def test_a_whole_stream_can_lack_what_need_not_be_there(played: dict[str, Any]) -> None:
    for name, lacks in (("lone_cr", "\n"), ("without_done", "[DONE]")):
        if played["streamed"]:
            assert lacks not in played[name].text
            assert '"finish_reason":"length"' in played[name].text
        else:
            assert text_of(played[name]) == text_of(played["sound"])
    assert ("data:\n\ndata: {" in played["heartbeats"].text) is played["streamed"]


def test_a_stream_can_end_in_good_order_without_its_end(played: dict[str, Any]) -> None:
    answer = played["no_done@3"]
    if played["streamed"]:
        assert len(events(answer.text)) == 3
    assert "[DONE]" not in answer.text
    assert '"finish_reason":"' not in answer.text


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cut@3", httpx.RemoteProtocolError),
        ("reset@3", (httpx.ReadError, httpx.RemoteProtocolError)),
    ],
)
def test_a_broken_connection_is_an_error_of_the_transport(
    played: dict[str, Any], name: str, kinds: Any
) -> None:
    assert isinstance(played[name], kinds)


def test_a_stall_loses_nothing_and_keeps_one_token_an_event(played: dict[str, Any]) -> None:
    answer = played["stall@3=1ms"]
    assert text_of(answer) == text_of(played["sound"])
    truth = played["truth"]["stall@3=1ms"]
    if played["streamed"]:
        assert truth["tokens"] == [1] * TOKENS
        gap_ns = truth["t_sent_ns"][3] - truth["t_sent_ns"][2]
        assert gap_ns >= 1_000_000


def test_malformed_json_is_no_json(played: dict[str, Any]) -> None:
    answer = played["malformed@3"]
    payloads = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    texts = [line[6:] for line in payloads] if played["streamed"] else [answer.text]
    broken = [text for text in texts if text != "[DONE]" and not is_json(text)]
    assert len(broken) == 1


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize("name", ["split_bytes", "merge=4", "comments"])
def test_what_only_changes_the_bytes_leaves_the_events_alone(
    played: dict[str, Any], name: str
) -> None:
    assert text_of(played[name]) == text_of(played["sound"])


def test_crlf_comments_and_foreign_words_are_there(played: dict[str, Any]) -> None:
    if not played["streamed"]:
        return
    assert played["crlf"].content.count(b"\r\n\r\n") == TOKENS + 2
    assert played["comments"].text.count(": still here\n\n") == TOKENS + 2
    assert not text_of(played["split_utf8"]).isascii()


def test_merged_events_share_their_stamps(played: dict[str, Any]) -> None:
    stamps = played["truth"]["merge=4"]["t_sent_ns"]
    assert len(set(stamps)) == (3 if played["streamed"] else 1)  # 10 tokens: 4, 4, 2


def test_the_usage_is_left_out(played: dict[str, Any]) -> None:
    assert '"usage"' in played["sound"].text
    assert '"usage"' not in played["no_usage"].text


@pytest.mark.parametrize(("name", "tokens"), [("short=2", 2), ("long=3", TOKENS + 3)])
def test_lengths_can_be_wrong(played: dict[str, Any], name: str, tokens: int) -> None:
    assert played["truth"][name]["completion_tokens"] == tokens
    assert len(text_of(played[name]).split()) == tokens


def usage_of(answer: httpx.Response) -> dict[str, int]:
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return dict(answer.json()["usage"])
    return dict(events(answer.text)[-2]["usage"])


def test_the_usage_can_contradict_the_reply(played: dict[str, Any]) -> None:
    sound, claim, prompt = (
        usage_of(played[name]) for name in ("sound", "claim=1000", "claim_prompt=7")
    )
    assert text_of(played["claim=1000"]) == text_of(played["sound"])
    assert claim["completion_tokens"] == 1000
    assert claim["prompt_tokens"] == sound["prompt_tokens"]
    assert prompt["prompt_tokens"] == sound["prompt_tokens"] + 7
    assert prompt["completion_tokens"] == TOKENS
    for counts in (claim, prompt):
        assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]
    assert played["truth"]["claim=1000"]["completion_tokens"] == TOKENS  # the truth stays true


def test_a_whole_reply_can_come_in_one_event(played: dict[str, Any]) -> None:
    assert text_of(played["all_in_one"]) == text_of(played["sound"])
    assert played["truth"]["all_in_one"]["tokens"] == [TOKENS]
    if played["streamed"]:
        assert len(events(played["all_in_one"].text)) == 3  # the tokens, the usage, [DONE]


def test_a_stream_can_come_without_a_token_event(played: dict[str, Any]) -> None:
    answer = played["no_tokens"]
    assert usage_of(answer)["completion_tokens"] == TOKENS
    if played["streamed"]:
        (end, _, done) = events(answer.text)
        assert end["choices"][0]["finish_reason"] == "length"
        assert (text_of(answer), done) == ("", "[DONE]")
        assert played["truth"]["no_tokens"]["tokens"] == [0]


def test_a_reply_can_name_another_model(played: dict[str, Any]) -> None:
    answer = played["other_model"]
    said = events(answer.text)[:-1] if played["streamed"] else [answer.json()]
    assert {event["model"] for event in said} == {"another-model"}
    assert text_of(answer) == text_of(played["sound"])


@pytest.mark.process
@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_can_think_and_say_nothing(stream: bool) -> None:
    ask = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": TOKENS}
    ask |= {"ignore_eos": True, "stream": stream}
    with Simulated(*FLAGS, "--faults", "only_thinks") as server:
        answer = server.client.post("/v1/chat/completions", json=ask)
    if not stream:
        said = answer.json()["choices"][0]["message"]
        assert (said["content"], len(said["reasoning"].split())) == (None, TOKENS)
        return
    parts = [event["choices"][0]["delta"] for event in events(answer.text)[:-1]]
    assert len("".join(part.get("reasoning", "") for part in parts).split()) == TOKENS
    assert not any(part.get("content") for part in parts)


@pytest.mark.process
@pytest.mark.parametrize(("spec", "found"), [("crlf", 0), ("ignore_salt", 48)])
def test_the_prefix_cache_can_ignore_the_salt(spec: str, found: int) -> None:
    ask = {"prompt": list(range(64)), "max_tokens": 1}
    with Simulated("--profile", "tiny-cpu", "--faults", spec) as server:
        for salt in ("a", "b"):
            server.client.post("/v1/completions", json={**ask, "cache_salt": salt})
        counters = read_counters(server.client.get("/metrics").text)
    assert counters["vllm:prefix_cache_hits_total"] == found  # all full blocks but the last


@pytest.mark.process
def test_a_silent_server_sends_its_head_and_never_a_token() -> None:
    ask = {"prompt": "hello", "stream": True}
    with Simulated(*FLAGS, "--faults", "silent:#1") as server:
        where = urlsplit(server.url)
        with closing(HTTPConnection(where.netloc, timeout=LIMIT_S)) as connection:
            connection.request("POST", "/v1/completions", json.dumps(ask))
            got = connection.getresponse()
            assert got.status == 200
            connection.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                got.read(1)
        assert events(server.client.post("/v1/completions", json=ask).text)[-1] == "[DONE]"


@pytest.mark.process
def test_no_reply_is_longer_than_the_context() -> None:
    flags = ("--profile", "tiny-cpu", "--max-model-len", "64", "--faults", "long=5")
    ask = {"messages": [{"role": "user", "content": "hello"}]}  # no max_tokens: all that is left
    with Simulated(*flags) as server:
        usage = server.client.post("/v1/chat/completions", json=ask).json()["usage"]
    assert usage["total_tokens"] == 64


@pytest.mark.process
def test_a_crash_ends_the_process_and_keeps_the_truth() -> None:
    ask = {"prompt": "hello", "max_tokens": 8, "ignore_eos": True, "stream": True}
    with Simulated(*FLAGS, "--faults", "crash:#2@4") as server:
        assert server.stream("/v1/completions", **ask)[-1] == "[DONE]"
        with pytest.raises(httpx.TransportError):
            server.stream("/v1/completions", **ask)
        assert server.process.wait(LIMIT_S) == 1
        outcomes = [(r["outcome"], sum(r["tokens"])) for r in server.so_far()]
    assert outcomes == [("ok", 8), ("crash", 4)]


@pytest.mark.process
def test_a_server_that_is_slow_to_be_ready_says_so_when_it_is() -> None:
    with Simulated(*FLAGS, "--faults", "slow_ready=10ms") as server:
        assert server.client.get("/health").status_code == 200


@given(st.text())
def test_pieces_are_the_event_cut_where_it_hurts(text: str) -> None:
    event = f"data: {text}\n\n".encode("utf-8", "replace")
    for kind in ("split_bytes", "split_utf8"):
        assert b"".join(REWRITES[kind](event)) == event
    pieces = REWRITES["split_utf8"](event)
    assert len(pieces) == 1 + sum(len(letter.encode("utf-8", "replace")) - 1 for letter in text)


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ("crlf", [Fault("crlf")]),
        ("http_503:0.02", [Fault("http_503", 0.02)]),
        ("error_event:0.05@7", [Fault("error_event", 0.05, None, 7)]),
        ("error_event", [Fault("error_event", after_tokens=5)]),
        ("stall:#3,7@10=400ms", [Fault("stall", 1, frozenset({3, 7}), 10, 0.4)]),
        ("stall=2s", [Fault("stall", 1, None, 5, 2.0)]),
        ("merge=3", [Fault("merge", value=3)]),
        ("cut : #1 @ 2", [Fault("cut", 1, frozenset({1}), 2)]),
        (
            "reset:#1,2, crlf:0.5 ,cut:#4",
            [
                Fault("reset", 1, frozenset({1, 2}), 5),
                Fault("crlf", 0.5),
                Fault("cut", 1, frozenset({4}), 5),
            ],
        ),
        ("slow_ready=200ms", [Fault("slow_ready", value=0.2)]),
        ("stand_still", [Fault("stand_still", value=2.0)]),
        ("", []),
    ],
)
def test_a_line_of_faults_is_read(spec: str, faults: list[Fault]) -> None:
    assert list(read_faults(spec)) == faults


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("eror_event", "unknown kind 'eror_event'; did you mean error_event? (known: http_400"),
        ("stall:1.5", "rate '1.5' isn't a share from 0 to 1"),
        ("stall:often", "rate 'often'"),
        ("stall:#0", "request number '0'"),
        ("stall:#a", "request number 'a'"),
        ("stall=400", "isn't a duration such as 400ms"),
        ("stall@x", "after_tokens 'x'"),
        ("merge=many", "value 'many'"),
        ("crlf@3", "crlf takes no @"),
        ("cut=3", "cut takes no ="),
        ("slow_ready:0.5", "slow_ready is the server's"),
        ("stand_still:#1", "stand_still is the server's"),
        ("stand_still=10s", "under 10 s"),
        ("@3", "isn't a fault"),
    ],
)
def test_a_wrong_fault_is_named_with_what_is_allowed(spec: str, words: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_faults(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(
        "faults:\n"
        "  - {kind: error_event, rate: 0.05, after_tokens: 5}\n"
        "  - {kind: stall, requests: [3, 7], after_tokens: 10, value: 400ms}\n"
        "  - kind: crlf\n"
    )
    line = "error_event:0.05@5, stall:#3,7@10=400ms, crlf"
    assert read_faults(str(file)) == read_faults(line)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "faults:\n  - {kind: cut, after_token: 3}\n",
            "unknown key 'after_token'; did you mean after_tokens?",
        ),
        ("faults:\n  - {rate: 3}\n", "needs a `kind`"),
        ("- cut\n", "needs a list under `faults:`"),
        ("faults: {", "isn't YAML"),
        ("faults:\n  - {kind: cut, rate: 0.5, requests: [1]}\n", "not both"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(content)
    with pytest.raises(FaultError, match=r"faults\.yaml") as caught:
        read_faults(str(file))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FaultError, match=r"cannot read nowhere\.yaml"):
        read_faults("nowhere.yaml")


def test_the_rate_is_the_share_and_the_first_that_strikes_is_played() -> None:
    faults = read_faults("slow_ready, cut:#3, stall:0.25, crlf:0.5")
    played = [fault_of(faults, number, 7) for number in range(1, 4001)]
    assert played == [fault_of(faults, number, 7) for number in range(1, 4001)]
    kinds = [fault.kind if fault else None for fault in played]
    assert kinds[2] == "cut"
    assert 900 < kinds.count("stall") < 1100
    assert 1350 < kinds.count("crlf") < 1650  # half of what stall left
    other = [fault_of(faults, number, 8) for number in range(1, 4001)]
    assert played != other
