"""What servers really send: healthy replies in the dialects of many, and failures by name.

The streams are made by hand to the shapes that each server documents or that its users' reports
show; each is read whole, byte by byte and in segments, and must say the same each time.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pytest
from vllm_bench.records.request_record import COLUMNS, RequestRecord
from vllm_bench.records.row import column_types, csv_lines, rows_of
from vllm_bench.reply.exchange import Exchange, Failure, Reads, Segment
from vllm_bench.reply.outcome import Expectation, judge, reply_to

from tests.support.far_end import delta, event, good_stream, usage

MS = 1_000_000
ASKED = Expectation(
    *("run", "s", 1, "run-0", "p"), max_tokens=16, choices=1, stream=True, start_ns=0
)
SSE = "text/event-stream"


def exchange(reads: Reads, **changes: Any) -> Exchange:
    end_ns = reads[-1][0] if reads else MS
    made = Exchange(0, 0, 0, 0, end_ns, http_status=200, content_type=SSE, framed=True)
    for name, value in {"reads": reads, **changes}.items():
        setattr(made, name, value)
    return made


def row(body: bytes, asked: Expectation = ASKED, **changes: Any) -> RequestRecord:
    """Return the row of a reply, which must be the same however its bytes are cut."""
    ways: list[Reads] = [
        [(MS, body)],
        [(MS, body[at : at + 1]) for at in range(len(body))],
        [(MS, body[at : at + 7]) for at in range(0, len(body), 7)],
    ]
    rows = [judge(exchange(reads, **changes), asked).record for reads in ways]
    reply = reply_to(asked)
    for place in range(0, len(ways[-1]), 5):
        status = changes.get("http_status", 200)
        reply.take(Segment(0, status, ways[-1][place : place + 5]).packed())
    end = exchange([], **changes)
    rows.append(judge(end, asked, reply).record)
    assert all(one == rows[0] for one in rows)
    assert rows_of(f"{','.join(COLUMNS)}\n{csv_lines(rows)}".encode(), column_types(RequestRecord))
    return rows[0]


@dataclass(frozen=True)
class Dialect:
    """A healthy stream of three tokens, and what its row says besides."""

    stream: bytes
    prompt_tokens: int | None = 12
    finish: str = "stop"
    visible: int = 3
    cached: int | None = None


VLLM = b"""data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,\
"finish_reason":null}],"prompt_token_ids":null}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[{"index":0,"delta":{"content":"One"},"logprobs":null,"finish_reason":null,\
"token_ids":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[{"index":0,"delta":{"content":" two"},"logprobs":null,"finish_reason":null,\
"token_ids":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[{"index":0,"delta":{"content":"."},"logprobs":null,"finish_reason":"stop",\
"stop_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}

data: [DONE]

"""

VLLM_TOKEN_IDS = b"""data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m",\
"choices":[{"index":0,"text":"One","logprobs":null,"finish_reason":null,"stop_reason":null,\
"prompt_token_ids":[1,2],"token_ids":[7]}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,\
"text":" two","logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":[8]}]}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,\
"text":".","logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":[9]}]}

data: [DONE]

"""

VLLM_CONTINUOUS = b"""data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m",\
"choices":[{"index":0,"text":"One","finish_reason":null}],"usage":{"prompt_tokens":12,\
"total_tokens":13,"completion_tokens":1}}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,\
"text":" two","finish_reason":null}],"usage":{"prompt_tokens":12,"total_tokens":14,\
"completion_tokens":2}}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,\
"text":".","finish_reason":"stop"}],"usage":{"prompt_tokens":12,"total_tokens":15,\
"completion_tokens":3}}

data: [DONE]

"""

SGLANG = b"""data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null},\
"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"role":null,"content":"One","reasoning_content":null,"tool_calls":null},"logprobs":null,\
"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"role":null,"content":" two","reasoning_content":null,"tool_calls":null},"logprobs":null,\
"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"role":null,"content":".","reasoning_content":null,"tool_calls":null},"logprobs":null,\
"finish_reason":null,"matched_stop":null}],"usage":null}

data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":null},"logprobs":null,\
"finish_reason":"stop","matched_stop":128009}],"usage":null}

data: {"id":"5f","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":\
{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null,\
"reasoning_tokens":0}}

data: [DONE]

"""

# Until 1.4.3 the index of a choice was the number of the token; [DONE] came with 2.2, and before
# 2.3 there was no usage in a stream: here a gateway adds it.
TGI_OLD = b"""data:{"id":"","object":"text_completion","created":1710508199,"model":"m",\
"system_fingerprint":"1.4.3-sha-e6bb3ff","choices":[{"index":1,"delta":{"role":"assistant",\
"content":"One"},"logprobs":null,"finish_reason":null}]}

data:{"id":"","object":"text_completion","created":1710508199,"model":"m",\
"system_fingerprint":"1.4.3-sha-e6bb3ff","choices":[{"index":2,"delta":{"role":"assistant",\
"content":" two"},"logprobs":null,"finish_reason":null}]}

data:{"id":"","object":"text_completion","created":1710508199,"model":"m",\
"system_fingerprint":"1.4.3-sha-e6bb3ff","choices":[{"index":3,"delta":{"role":"assistant",\
"content":"."},"logprobs":null,"finish_reason":"eos_token"}],"usage":{"prompt_tokens":12,\
"completion_tokens":3}}

"""

TGI = b"""data: {"object":"chat.completion.chunk","id":"","created":1,"model":"m",\
"system_fingerprint":"3.0.1-sha-bb9095a","choices":[{"index":0,"delta":{"role":"assistant",\
"content":"One"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"object":"chat.completion.chunk","id":"","created":1,"model":"m",\
"system_fingerprint":"3.0.1-sha-bb9095a","choices":[{"index":0,"delta":{"role":"assistant",\
"content":" two"},"logprobs":null,"finish_reason":null}],"usage":null}

data: {"object":"chat.completion.chunk","id":"","created":1,"model":"m",\
"system_fingerprint":"3.0.1-sha-bb9095a","choices":[{"index":0,"delta":{"role":"assistant",\
"content":"."},"logprobs":null,"finish_reason":"stop"}],"usage":null}

data: {"object":"chat.completion.chunk","id":"","created":1,"model":"m",\
"system_fingerprint":"3.0.1-sha-bb9095a","choices":[],"usage":{"prompt_tokens":12,\
"completion_tokens":3,"total_tokens":15}}

data: [DONE]

"""

# The last event comes without a blank line.
LLAMA_CPP = b"""data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant",\
"content":null}}],"created":1,"id":"chatcmpl-X","model":"m","system_fingerprint":"b6097-9515c613",\
"object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"One"}}],"created":1,\
"id":"chatcmpl-X","model":"m","system_fingerprint":"b6097","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" two"}}],"created":1,\
"id":"chatcmpl-X","model":"m","system_fingerprint":"b6097","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"."}}],"created":1,\
"id":"chatcmpl-X","model":"m","system_fingerprint":"b6097","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1,"id":"chatcmpl-X",\
"model":"m","system_fingerprint":"b6097","object":"chat.completion.chunk","usage":\
{"completion_tokens":3,"prompt_tokens":12,"total_tokens":15},"timings":{"prompt_n":12,\
"prompt_ms":203.378,"predicted_n":3,"predicted_ms":9.3}}

data: [DONE]
"""

OLLAMA = b"""data: {"id":"chatcmpl-693","object":"chat.completion.chunk","created":1,"model":"m",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"One"},\
"finish_reason":""}]}

data: {"id":"chatcmpl-693","object":"chat.completion.chunk","created":1,"model":"m",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant",\
"content":" two"},"finish_reason":null}]}

data: {"id":"chatcmpl-693","object":"chat.completion.chunk","created":1,"model":"m",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"."},\
"finish_reason":null}]}

data: {"id":"chatcmpl-693","object":"chat.completion.chunk","created":1,"model":"m",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},\
"finish_reason":"stop"}]}

data: {"id":"chatcmpl-693","object":"chat.completion.chunk","created":1,"model":"m",\
"system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,\
"total_tokens":15}}

data: [DONE]

"""

LITELLM = b"""data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk",\
"choices":[{"index":0,"delta":{"content":"One","role":"assistant"}}]}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"index":0,"delta":{"content":" two"}}]}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"index":0,"delta":{"content":"."}}]}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"finish_reason":"stop","index":0,"delta":{}}]}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"index":0,"delta":{}}],"usage":{"completion_tokens":3,"prompt_tokens":12,"total_tokens":15,\
"completion_tokens_details":null,"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":0}}}

data: [DONE]

"""

# With Gemini behind it each chunk says that the reply has ended.
LITELLM_GEMINI = b"""data: {"id":"chatcmpl-9","created":1,"model":"m","object":\
"chat.completion.chunk","choices":[{"finish_reason":"stop","index":0,"delta":{"content":"One"}}],\
"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"finish_reason":"stop","index":0,"delta":{"content":" two"}}],"usage":{"total_tokens":0}}

data: {"id":"chatcmpl-9","created":1,"model":"m","object":"chat.completion.chunk","choices":\
[{"finish_reason":"stop","index":0,"delta":{"content":"."}}],"usage":{"prompt_tokens":12,\
"completion_tokens":3,"total_tokens":15}}

data: [DONE]

"""

TRTLLM = b"""data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m",\
"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":null,\
"tool_calls":[]},"logprobs":null,"finish_reason":null,"stop_reason":null,"avg_decoded_tokens_per_iter"\
:null}],"usage":null}

data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"role":null,"content":"One","reasoning_content":null,"tool_calls":[]},\
"logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}

data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"role":null,"content":" two","reasoning_content":null,"tool_calls":[]},\
"logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}

data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"role":null,"content":".","reasoning_content":null,"tool_calls":[]},\
"logprobs":null,"finish_reason":"length","stop_reason":null,"disaggregated_params":null}],"usage":null}

data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":[],\
"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null}}

data: [DONE]

"""

AZURE = b"""data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":\
[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":\
"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"chatcmpl-b",\
"model":"m","object":"chat.completion.chunk","system_fingerprint":"fp_1","usage":null}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":\
{"content":"One"},"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"chatcmpl-b",\
"model":"m","object":"chat.completion.chunk","usage":null}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":\
{"content":" two"},"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"chatcmpl-b",\
"model":"m","object":"chat.completion.chunk","usage":null}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"."},"finish_reason":"FINISH",\
"index":0,"logprobs":null}],"created":1,"id":"chatcmpl-b","model":"m","object":\
"chat.completion.chunk","usage":null}

data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,\
"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"content_filter_offsets":\
{"check_offset":44,"start_offset":44,"end_offset":198}}]}

data: {"choices":[],"created":1,"id":"chatcmpl-b","model":"m","object":"chat.completion.chunk",\
"usage":{"completion_tokens":3,"prompt_tokens":12,"total_tokens":15,"prompt_tokens_details":\
{"cached_tokens":0}}}

data: [DONE]

"""

OPENROUTER = b""": OPENROUTER PROCESSING

: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"P","model":"m","object":"chat.completion.chunk","created":1,\
"choices":[{"index":0,"delta":{"role":"assistant","content":"One"},"finish_reason":null,\
"native_finish_reason":null,"logprobs":null}]}

: OPENROUTER PROCESSING

data: {"id":"gen-1","provider":"P","model":"m","object":"chat.completion.chunk","created":1,\
"choices":[{"index":0,"delta":{"role":"assistant","content":" two"},"finish_reason":null,\
"native_finish_reason":null,"logprobs":null}]}

data: {"id":"gen-1","provider":"P","model":"m","object":"chat.completion.chunk","created":1,\
"choices":[{"index":0,"delta":{"role":"assistant","content":"."},"finish_reason":"stop",\
"native_finish_reason":"stop","logprobs":null}]}

data: {"id":"gen-1","provider":"P","model":"m","object":"chat.completion.chunk","created":1,\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,\
"native_finish_reason":null,"logprobs":null}],"usage":{"prompt_tokens":12,"completion_tokens":3,\
"total_tokens":15,"cost":0.1,"prompt_tokens_details":{"cached_tokens":8},"is_byok":false}}

data: [DONE]

"""

MISTRAL = b"""data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]},\
"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"content":[{"type":"text","text":"One"}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,\
"delta":{"content":" two"},"finish_reason":"model_length"}],"usage":{"prompt_tokens":12,\
"total_tokens":15,"completion_tokens":3}}

data: [DONE]

"""

DEEPSEEK = b""": keep-alive

data: {"id":"d","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp",\
"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""},\
"logprobs":null,"finish_reason":null}]}

data: {"id":"d","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp",\
"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"Hm"},"logprobs":null,\
"finish_reason":null}]}

: keep-alive

data: {"id":"d","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp",\
"choices":[{"index":0,"delta":{"content":"One","reasoning_content":null},"logprobs":null,\
"finish_reason":null}]}

data: {"id":"d","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp",\
"choices":[{"index":0,"delta":{"content":".","reasoning_content":null},"logprobs":null,\
"finish_reason":null}]}

data: {"id":"d","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp",\
"choices":[{"index":0,"delta":{"content":"","reasoning_content":null},"logprobs":null,\
"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,\
"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1},\
"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":12}}

data: [DONE]

"""

GEMINI = b"""data: {"choices":[{"delta":{"content":"One","role":"assistant"},"index":0}],\
"created":1,"id":"g","model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":1,\
"prompt_tokens":12,"total_tokens":13}}

data: {"choices":[{"delta":{"content":" two","role":"assistant"},"index":0}],"created":1,"id":"g",\
"model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":12,\
"total_tokens":14}}

data: {"choices":[{"delta":{"role":"assistant","tool_calls":[{"index":null,"id":"","type":\
"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls","index":0}],\
"created":1,"id":"g","model":"m","object":"chat.completion.chunk","usage":{"completion_tokens":3,\
"prompt_tokens":12,"total_tokens":15}}

data: [DONE]

"""

# Some gateways send usage after [DONE], others neither blank nor [DONE].
DONE_FIRST = VLLM.replace(b"data: [DONE]\n\n", b"").replace(
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[],',
    b'data: [DONE]\n\ndata: {"id":"chatcmpl-1","choices":[],',
)

DIALECTS = {
    "vllm": Dialect(VLLM),
    "vllm token_ids": Dialect(VLLM_TOKEN_IDS, prompt_tokens=None),
    "vllm continuous usage": Dialect(VLLM_CONTINUOUS),
    "sglang": Dialect(SGLANG),
    "tgi old": Dialect(TGI_OLD, finish="eos_token"),
    "tgi": Dialect(TGI),
    "llama.cpp": Dialect(LLAMA_CPP),
    "ik_llama.cpp": Dialect(LLAMA_CPP.replace(b"data: [DONE]\n", b"")),
    "ollama": Dialect(OLLAMA),
    "litellm": Dialect(LITELLM, cached=0),
    "litellm with gemini": Dialect(LITELLM_GEMINI),
    "tensorrt-llm": Dialect(TRTLLM, finish="length"),
    "azure": Dialect(AZURE.replace(b"FINISH", b"stop"), cached=0),
    "openrouter": Dialect(OPENROUTER, cached=8),
    "mistral": Dialect(MISTRAL, finish="model_length", visible=2),
    "deepseek": Dialect(DEEPSEEK, visible=2, cached=0),
    "gemini": Dialect(GEMINI, finish="tool_calls"),
    "usage after done": Dialect(DONE_FIRST),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_healthy_stream_of_each_server_is_one(name: str) -> None:
    dialect = DIALECTS[name]
    found = row(dialect.stream)
    assert (found.error_kind, found.error) == (None, None)
    assert (found.completion_tokens, found.token_events) == (3, 3)
    assert (found.prompt_tokens, found.cached_tokens) == (dialect.prompt_tokens, dialect.cached)
    assert (found.finish_reason, found.visible_events) == (dialect.finish, dialect.visible)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_that_was_cut_is_never_a_success(name: str) -> None:
    """At each event's end but where all that counts has come; the connection just closes."""
    stream = DIALECTS[name].stream
    ends = [at for at in range(len(stream)) if stream.startswith(b"\n\n", at)]
    for end in ends[:-3]:
        cut = exchange([(MS, stream[: end + 2])], framed=False)
        assert judge(cut, ASKED).record.error_kind == "truncated"


def test_without_done_only_an_end_that_http_marks_is_one() -> None:
    stream = VLLM.replace(b"data: [DONE]\n\n", b"")
    assert row(stream).error_kind is None
    assert row(stream, framed=False).error_kind == "truncated"
    cut = Failure("truncated", "closed in mid-reply")
    assert row(stream, failure=cut).error_kind == "truncated"


@pytest.mark.parametrize("kind", ["timeout_stall", "truncated"])
def test_what_happens_after_done_is_no_failure(kind: Any) -> None:
    late = Failure(kind, "no token for 3 s")
    assert row(VLLM, failure=late).error_kind is None
    assert row(VLLM.replace(b'"stop"', b"null"), failure=late).error_kind == "truncated"
    assert row(VLLM.replace(b"data: [DONE]\n\n", b""), failure=late).error_kind == kind


ROLE, A, B, C, USAGE, DONE = good_stream()
PLAIN = b"".join((ROLE, A, B, C, USAGE, DONE))


def with_field(key: str, value: str) -> bytes:
    """Return the plain stream with a field more in each of its objects."""
    return PLAIN.replace(b'data: {"id": "x"', f'data: {{"id": "x", "{key}": {value}'.encode())


def with_usage(*said: object) -> bytes:
    """Return the plain stream with other usages: in the first events, and at its end."""
    *before, last = said
    early = [event({"choices": [], "usage": one}) for one in before]
    return b"".join((ROLE, *early, A, B, C, event({"choices": [], "usage": last}), DONE))


TRUE_USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
NO_NUMBERS = '{"content": [{"token": "a", "logprob": NaN, "top_logprobs": [-Infinity, Infinity]}]}'
VARIANTS = {
    "heartbeats": b"data:\n\n" + PLAIN.replace(b"\n\n", b"\n\ndata: \n\n"),
    "null events": b"data: null\n\n" + PLAIN.replace(b"\n\n", b'\n\ndata: ""\n\n'),
    "pings": b"event: ping\ndata: now\n\n" + PLAIN,
    "comments": PLAIN.replace(b"\n\n", b"\n\n: still here\n\n:\n\n"),
    "fields": PLAIN.replace(b"data: ", b"id: 3\nretry: 10\nevent: message\ndata: "),
    "done with blanks": PLAIN.replace(b"[DONE]", b" [DONE] \t"),
    "done without a line's end": PLAIN.removesuffix(b"\n\n"),
    "done twice": PLAIN + DONE,
    "cr": PLAIN.replace(b"\n", b"\r"),
    "crlf": PLAIN.replace(b"\n", b"\r\n"),
    "mixed ends": (ROLE + A).replace(b"\n", b"\r") + B.replace(b"\n", b"\r\n") + C + USAGE + DONE,
    "lf, then crlf": PLAIN.replace(b"\n\n", b"\n\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "in two lines": PLAIN.replace(b'"choices": ', b'\ndata: "choices": '),
    "error null": with_field("error", "null"),
    "error empty": with_field("error", '""'),
    "error {}": with_field("error", "{}"),
    "error false": with_field("error", "false"),
    "error of nulls": with_field("error", '{"message": null, "code": 0}'),
    "index null": PLAIN.replace(b'"index": 0', b'"index": null'),
    "index missing": PLAIN.replace(b'"index": 0, ', b""),
    "index a text": PLAIN.replace(b'"index": 0', b'"index": "0"'),
    "choices null": event({"choices": None}) + PLAIN,
    "choices missing": event({"id": "x"}) + PLAIN,
    "delta null": event({"choices": [{"index": 0, "delta": None}]}) + PLAIN,
    "half a pair": PLAIN.replace(b'"a"', b'"\\ud83d"').replace(b'"b"', b'"\\ude42"'),
    "half a pair in utf-8": PLAIN.replace(b'"a"', b'"\xed\xa0\xbd"'),
    "no utf-8": PLAIN.replace(b'"a"', b'"\xff\xfe"'),
    "numbers that are none": with_field("logprobs", NO_NUMBERS),
    "long numbers": with_field("created", "1" * 5000),
    "deep": with_field("extra", "[" * 400 + "]" * 400),
    "usage null": with_usage(None, TRUE_USAGE),
    "usage {}": with_usage({}, TRUE_USAGE),
    "usage of zeros first": with_usage(
        {"total_tokens": 0}, dict.fromkeys(TRUE_USAGE, 0), TRUE_USAGE
    ),
    "usage of zeros last": with_usage(TRUE_USAGE, {"total_tokens": 0}),
    "usage that isn't known yet": with_usage("none", {"completion_tokens": -1}, TRUE_USAGE),
    "usage in parts": with_usage({"prompt_tokens": 5}, {"completion_tokens": 3}),
    "usage with odd totals": with_usage({**TRUE_USAGE, "total_tokens": "many", "cost": None}),
    "usage with whole floats": with_usage({"prompt_tokens": 5.0, "completion_tokens": 3.0}),
    "after the end": PLAIN + b": bye\n\n",
    "no space": PLAIN.replace(b"data: ", b"data:"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_reply_need_not_have_may_be_odd(name: str) -> None:
    found = row(VARIANTS[name])
    assert (found.error_kind, found.error) == (None, None)
    assert (found.prompt_tokens, found.completion_tokens, found.token_events) == (5, 3, 3)
    assert (found.finish_reason, found.visible_events) == ("length", 3)


def test_usage_that_is_wrong_at_the_end_is_wrong() -> None:
    found = row(with_usage(TRUE_USAGE, {"prompt_tokens": 5, "completion_tokens": 2**62}))
    assert (found.error_kind, found.token_events) == ("protocol", 3)


def test_usage_without_the_prompt_is_usage() -> None:
    found = row(with_usage({"completion_tokens": 3}))
    assert (found.error_kind, found.prompt_tokens, found.completion_tokens) == (None, None, 3)


PARTS: dict[str, tuple[dict[str, object], bool]] = {
    "refusal": ({"content": None, "refusal": "I can't."}, True),
    "function_call": ({"function_call": {"name": None, "arguments": "{"}}, True),
    "tool_calls": ({"tool_calls": [{"index": None, "function": {"arguments": "{"}}]}, True),
    "audio": ({"audio": {"id": "a", "data": "UklGRg=="}}, True),
    "transcript": ({"audio": {"transcript": "Hm"}}, True),
    "reasoning": ({"reasoning": "Hm", "content": None}, False),
    "reasoning_content": ({"reasoning_content": "Hm"}, False),
    "text part": ({"content": [{"type": "text", "text": "One"}]}, True),
    "thought part": ({"content": [{"type": "thinking", "thinking": "Hm"}]}, False),
}


@pytest.mark.parametrize("name", PARTS)
def test_whatever_a_token_is_it_counts(name: str) -> None:
    part, visible = PARTS[name]
    one = event({"choices": [{"index": 0, "delta": part}]})
    found = row(ROLE + one + B + C + USAGE + DONE)
    assert (found.error_kind, found.token_events, found.visible_events) == (None, 3, 2 + visible)


def timed(*events: tuple[int, bytes]) -> RequestRecord:
    """Return the row of events at these times (ms)."""
    return judge(exchange([(at * MS, data) for at, data in events]), ASKED).record


def test_an_end_that_is_told_again_takes_no_longer() -> None:
    told = [(100, A), (110, B), (120, C), (121, USAGE)]
    once = timed(*told, (122, DONE))
    assert once.tpot_ms == 10
    again = timed(*told, (400, delta("", "length")), (500, USAGE), (600, DONE))
    assert (again.latency_ms, again.tpot_ms, again.error_kind) == (120, 10, None)
    in_each = [delta(text, "stop") for text in "ab"]
    found = timed((100, in_each[0]), (110, in_each[1]), (120, C), (500, USAGE), (600, DONE))
    assert (found.latency_ms, found.tpot_ms) == (120, 10)


def test_once_it_has_ended_badly_it_has() -> None:
    ends = delta("a", "abort") + delta("", "stop")
    assert row(ends + USAGE + DONE).error_kind == "bad_finish"
    assert row(delta("a", "stop") + delta("", "error") + USAGE + DONE).error_kind == "bad_finish"


# A byte order mark once lost the first event: its token was late by all that came before the next.
def test_a_byte_order_mark_loses_no_time() -> None:
    found = timed((80, b"\xef\xbb\xbf" + A), (382, B), (390, C), (391, USAGE + DONE))
    assert (found.ttft_ms, found.token_events) == (80, 3)


QUEUE_FULL = {"message": "The queue is full.", "type": "ServiceUnavailableError", "code": 503}
BAD_SCHEMA = {"message": "Invalid schema", "type": "BadRequestError", "param": None, "code": 400}
PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>"
WORDS: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    # body, of the exchange, kind of the failure, words in it
    "abort": (
        A + delta("", "abort") + usage(5, 273) + DONE,
        *({}, "bad_finish", "finish_reason abort"),
    ),
    "full queue": (event({"error": QUEUE_FULL}) + DONE, {}, "error_event", "503: The queue is"),
    "bad schema": (event({"error": BAD_SCHEMA}) + DONE, {}, "error_event", "400: Invalid schema"),
    "sglang": (
        event({"object": "error", **BAD_SCHEMA}) + DONE,
        *({}, "error_event", "400: Invalid schema"),
    ),
    "tgi": (
        event({"error": {"message": "too long", "http_status_code": 422}}),
        *({}, "error_event", "422: too long"),
    ),
    "tgi old": (
        b'data:{"error":"Request failed","error_type":"generation"}\n\n',
        *({}, "error_event", "Request failed"),
    ),
    "llama.cpp old": (
        b'error: {"code":400,"message":"the request exceeds the context"}\n\ndata: [DONE]\n\n',
        *({}, "error_event", "400: the request exceeds the context"),
    ),
    "openrouter": (
        A
        + event(
            {
                "error": {"code": "429", "message": "Provider busy"},
                "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            }
        ),
        *({}, "error_event", "429: Provider busy"),
    ),
    "an error of a choice": (
        event({"choices": [{"error": {"code": 502, "message": "Upstream"}, "text": ""}]}),
        *({}, "error_event", "502: Upstream"),
    ),
    "event: error": (
        b'event: error\ndata: {"type": "overloaded", "message": "Overloaded"}\n\n',
        *({}, "error_event", "Overloaded"),
    ),
    "event: error, a text": (b"event:error\ndata: it broke\n\n", {}, "error_event", "it broke"),
    "event: error, empty": (A + b"event: error\n\n" + DONE, {}, "error_event", "failed"),
    "an error before the cut": (
        A + event({"error": QUEUE_FULL}),
        *({"failure": Failure("truncated", "closed")}, "error_event", "The queue is full"),
    ),
    "an error before the stall": (
        A + event({"error": QUEUE_FULL}) + DONE,
        *({"failure": Failure("timeout_stall", "no token")}, "error_event", "The queue is full"),
    ),
    "json of an error": (
        json.dumps({"error": QUEUE_FULL}, indent=1).encode(),
        *({"content_type": "application/json"}, "error_event", "503: The queue is full"),
    ),
    "json of an error, called a stream": (
        json.dumps({"error": QUEUE_FULL}).encode(),
        *({}, "error_event", "503: The queue is full"),
    ),
    "json of a detail": (
        b'{"detail": "Not Found"}',
        *({"content_type": "application/json"}, "protocol", "Not Found"),
    ),
    "a detail in a stream": (event({"detail": "Not here"}) + DONE, {}, "truncated", "Not here"),
    "bare text in a stream": (b"Internal Server Error", {}, "truncated", "Internal Server Error"),
    "bare text after tokens": (A + b"upstream reset\n", {}, "truncated", "upstream reset"),
    "bare text": (b"no upstream", {"content_type": "text/plain"}, "protocol", "no upstream"),
    "page": (PAGE, {"content_type": "text/html"}, "protocol", "502 Bad Gateway"),
    "page without a title": (
        b"<html><body><h1>Gone</h1><p>for &lt;good&gt;</body>",
        *({"content_type": "text/html"}, "protocol", "Gone for <good>"),
    ),
    "page of 502": (PAGE, {"http_status": 502}, "http_5xx", "HTTP 502: 502 Bad Gateway"),
    "redirect": (
        b"",
        {"http_status": 307, "location": "https://elsewhere/v1/"},
        *("protocol", "HTTP 307: to https://elsewhere/v1/"),
    ),
    "nested": (
        event({"error": "x"}).replace(b'"x"', b'{"error": ' * 990 + b'"deep"' + b"}" * 990),
        *({}, "error_event", "deep"),
    ),
    "nested too deeply": (
        event({"error": "x"}).replace(b'"x"', b"[" * 100_000 + b"]" * 100_000),
        *({}, "protocol", "malformed JSON"),
    ),
    "half an event at the end": (PLAIN[:-9] + b'{"err', {}, "truncated", "inside an event"),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_servers_own_words_are_kept(name: str) -> None:
    body, changes, kind, words = WORDS[name]
    if len(body) > 10_000:
        found = judge(exchange([(MS, body)]), ASKED).record
    else:
        found = row(body, **changes)
    assert found.error_kind == kind
    assert words in (found.error or "")


def test_a_status_inside_a_reply_is_told_apart() -> None:
    reply = reply_to(ASKED)
    reply.feed(200, [(1, event({"error": QUEUE_FULL}))])
    assert reply.error is not None
    assert reply.error.kind == "error_event"
    assert reply.error.text.startswith("error 503: ")


WHOLE = dataclasses.replace(ASKED, stream=False)
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "One two."}}
JSON = {"choices": [{**CHOICE, "finish_reason": "stop"}], "usage": TRUE_USAGE}
BODIES = {
    "plain": json.dumps(JSON).encode(),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(JSON).encode(),
    "NaN": json.dumps({**JSON, "logprobs": float("nan")}).encode(),
    "index 1": json.dumps(JSON).replace('"index": 0', '"index": 1').encode(),
    "error null": json.dumps({**JSON, "error": None}).encode(),
    "indented": json.dumps(JSON, indent=4).encode() + b"\n",
    "prompt unknown": json.dumps({**JSON, "usage": {"completion_tokens": 3}}).encode(),
    "token_ids": json.dumps(
        {"choices": [{**CHOICE, "finish_reason": "stop", "token_ids": [1, 2, 3]}]}
    ).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_healthy_reply_in_one_piece_is_one(name: str) -> None:
    found = row(BODIES[name], WHOLE, content_type="application/json")
    assert (found.error_kind, found.error) == (None, None)
    assert (found.completion_tokens, found.finish_reason) == (3, "stop")


def test_a_reply_in_one_piece_may_be_large() -> None:
    large = json.dumps({**JSON, "logprobs": ["x" * 1000] * 20_000}).encode()
    reads = [(MS, large[at : at + 65536]) for at in range(0, len(large), 65536)]
    found = judge(exchange(reads, content_type="application/json"), WHOLE).record
    assert (found.error_kind, found.completion_tokens) == (None, 3)


WHOLE_WORDS = {
    "error": (json.dumps({"error": QUEUE_FULL}).encode(), "error_event", "503: The queue is full"),
    "object": (json.dumps({"object": "error", "message": "no"}).encode(), "error_event", "no"),
    "detail": (b'{"detail": "Not Found"}', "truncated", "Not Found"),
    "page": (PAGE, "protocol", "502 Bad Gateway"),
    "text": (b"upstream connect error", "protocol", "upstream connect error"),
    "a stream": (VLLM, "protocol", "chat.completion.chunk"),
    "half": (BODIES["plain"][:99], "protocol", "One"),
}


@pytest.mark.parametrize("name", WHOLE_WORDS)
def test_words_instead_of_a_reply_in_one_piece_are_kept(name: str) -> None:
    body, kind, words = WHOLE_WORDS[name]
    found = row(body, WHOLE, content_type="application/json")
    assert found.error_kind == kind
    assert words in (found.error or "")


def test_a_filtered_reply_is_one_by_name() -> None:
    found = row(AZURE.replace(b"FINISH", b"content_filter"))
    assert (found.error_kind, found.finish_reason) == ("content_filter", "content_filter")
