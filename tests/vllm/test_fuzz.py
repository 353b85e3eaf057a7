"""Whatever a control page is, reading it gives a typed value or one line for people."""

from __future__ import annotations

import math
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.beside.families import COUNTERS, STARTED
from vllm_bench.vllm.calls import Answer, Calls, NoAnswerError
from vllm_bench.vllm.models import Model
from vllm_bench.vllm.page import PageError, read_page
from vllm_bench.vllm.server import ControlError, Server

from tests.support.far_end import CLOSE, FarEnd
from tests.vllm.wild import edited_bytes, edited_json, edited_page

pytestmark = pytest.mark.fuzz

MODELS = {
    "object": "list",
    "data": [
        {"id": "tiny", "root": "r", "max_model_len": 2048, "permission": [{"id": "p"}]},
        {"id": "lora", "root": None, "parent": "tiny", "max_model_len": "4096"},
    ],
}
VERSION = {"version": "0.32.0"}
COUNT = {"count": 3, "max_model_len": 2048, "tokens": [1, 2, 3], "token_strs": None}
ERROR = {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}
PAGE = """# HELP vllm:prompt_tokens_total words
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 12559.0
vllm:generation_tokens_total{engine="0",model_name="m"} 12275.0
vllm:request_success_total{engine="0",finished_reason="stop"} 3
vllm:request_success_total{engine="0",finished_reason="length"} 31
vllm:gpu_prefix_cache_queries_total{engine="0"} 12559.0
vllm:prefix_cache_queries_total{engine="0"} 12559.0
vllm:num_requests_running{engine="0"} 16
ray_vllm_num_requests_waiting{engine="1"} 2
vllm:kv_cache_usage_perc{engine="0"} 0.03
vllm:time_per_output_token_seconds_sum{engine="0"} 29.7
vllm:time_per_output_token_seconds_count{engine="0"} 12225
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="4096"} 1.0
process_start_time_seconds 1.79549291186e+09
"""
statuses = st.sampled_from([200, 200, 200, 200, 204, 302, 400, 401, 404, 422, 500, 503])


def server_that_answers(status: int, body: bytes) -> Server:
    server = Server("http://nowhere/v1", "sk-1", {})
    server._calls.ask = lambda *_, **__: Answer(status, body, "")  # type: ignore[method-assign]
    return server


@given(statuses, edited_json(MODELS, VERSION, COUNT, ERROR))
def test_json_of_any_shape_is_a_typed_value_or_one_line(status: int, body: bytes) -> None:
    server = server_that_answers(status, body)
    version = server.version()
    assert version is None or isinstance(version, str)
    told: list[str] = []
    for ask in (server.models, lambda: server.tokenize("tiny", prompt="a")):
        try:
            found = ask()
        except ControlError as e:
            told.append(str(e))
            continue
        for model in found if isinstance(found, list) else []:
            assert isinstance(model, Model)
            assert isinstance(model.id, str)
            assert model.root is None or isinstance(model.root, str)
            assert model.max_model_len is None or type(model.max_model_len) is int
        assert isinstance(found, list) or found is None or (type(found) is int and found >= 0)
    assert not any("\n" in line for line in told)
    assert server.why_not_ready() is None or isinstance(server.why_not_ready(), str)


@given(statuses, edited_page(PAGE))
def test_any_page_gives_finite_counters_or_a_reason(status: int, text: str) -> None:
    server = server_that_answers(status, text.encode())
    counters = server.counters()
    if counters is None:
        assert server.unread
    else:
        assert counters.keys() <= {*COUNTERS, STARTED}
        assert all(math.isfinite(v) and v >= 0 for v in counters.values())
    config = server.cache_config()
    orjson.dumps([counters, config, server.unread])
    try:
        page = read_page(text)
    except PageError as e:
        engines, why = {}, str(e)
    else:
        engines, why = page.engines, ""
    assert "\n" not in why
    for engine in engines.values():
        spent = [n for s in engine.spent.values() for n in (s.seconds, s.count)]
        assert all(math.isfinite(v) and v >= 0 for v in (*engine.values.values(), *spent))


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """Bytes of a reply, edited."""
    body = draw(edited_json(MODELS))
    framed = draw(
        st.sampled_from(
            [
                b"content-length: %d\r\n\r\n%s" % (len(body), body),
                b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
                b"content-encoding: gzip\r\nconnection: close\r\n\r\n" + body,
                b"connection: close\r\n\r\n" + body,
            ]
        )
    )
    return edited_bytes(draw, edited_bytes(draw, HEAD + framed))


@given(st.lists(replies(), min_size=1, max_size=8))
def test_any_bytes_are_a_reply_or_a_reason(pieces: list[bytes]) -> None:
    with FarEnd(*[[piece, CLOSE] for piece in pieces]) as far_end:
        calls = Calls({})
        for _ in pieces:
            with suppress(NoAnswerError):
                assert isinstance(calls.ask(far_end.base_url, 5), Answer)
        calls.close()
