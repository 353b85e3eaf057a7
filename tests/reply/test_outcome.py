from __future__ import annotations

import dataclasses
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.request_record import COLUMNS, ErrorKind, RequestRecord
from vllm_bench.records.row import column_types, csv_lines, rows_of
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.reply.outcome import GOOD_ENDS, Expectation, judge
from vllm_bench.reply.sse import MOST_EVENT_BYTES
from vllm_bench.scenario.forms.answer_form import form_of

from tests.support.far_end import delta, event, good_stream, usage

MS = 1_000_000
START = 5_000 * MS
EXPECTED = Expectation(
    run_id="run",
    scenario="s",
    concurrency=4,
    request_id="run-7",
    prompt_id="p",
    max_tokens=3,
    choices=1,
    stream=True,
    start_ns=START,
)


def exchange(reads: list[tuple[float, bytes]], **changes: object) -> Exchange:
    """Make an exchange sent 2 ms after its slot at 100 ms, with reads at ms after the send."""
    made = Exchange(
        request_index=7,
        stream_index=2,
        t_scheduled_ns=START + 100 * MS,
        t_sent_ns=START + 102 * MS,
        t_end_ns=START + 102 * MS + int((reads[-1][0] if reads else 1) * MS),
        http_status=200,
        content_type="text/event-stream; charset=utf-8",
        reads=[(START + 102 * MS + int(at * MS), data) for at, data in reads],
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def record(reads: list[tuple[float, bytes]], **changes: object) -> RequestRecord:
    return judge(exchange(reads, **changes), EXPECTED).record


ROLE, A, B, C, USAGE, DONE = good_stream()
HEALTHY = [(50, ROLE + A), (70, B), (95, C), (95.5, USAGE), (96, DONE)]


def test_a_healthy_stream_is_measured_by_its_stamps() -> None:
    r = record(HEALTHY)
    assert (r.error_kind, r.error, r.finish_reason) == (None, None, "length")
    assert (r.t_scheduled_s, r.t_sent_s, r.t_end_s) == (0.1, 0.102, 0.197)
    assert (r.send_lag_ms, r.ttft_ms, r.ttfa_ms, r.latency_ms) == (2, 50, 50, 95)
    assert r.tpot_ms == (95 - 50) / (3 - 1)
    assert r.max_gap_ms == 25
    assert (r.prompt_tokens, r.completion_tokens, r.cached_tokens) == (5, 3, None)
    assert (r.token_events, r.token_reads, r.visible_events) == (3, 3, 3)


def test_the_fingerprint_comes_out_beside_the_record() -> None:
    assert judge(exchange(HEALTHY), EXPECTED).fingerprint == "fp-test"


def test_the_model_of_a_reply_is_that_of_the_first_event_that_names_one() -> None:
    named = [event({"model": name, "choices": []}) for name in ("", "tiny", "other")]
    found = judge(exchange([(10, b"".join(named)), *HEALTHY]), EXPECTED)
    assert found.model == "tiny"
    assert judge(exchange(HEALTHY), EXPECTED).model is None


def test_what_the_server_counted_before_the_run_stands_in_the_row() -> None:
    planned = dataclasses.replace(EXPECTED, prompt_tokens=6)
    assert judge(exchange(HEALTHY), planned).record.prompt_tokens_planned == 6


def test_tokens_in_one_read_count_as_events_but_make_no_gap() -> None:
    r = record([(50, ROLE + A + B + C + USAGE + DONE)])
    assert (r.token_events, r.token_reads, r.max_gap_ms) == (3, 1, None)
    assert (r.ttft_ms, r.latency_ms, r.tpot_ms) == (50, 50, 0)


def test_reasoning_starts_the_clock_and_visible_text_has_its_own() -> None:
    thought = event({"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]})
    r = record([(10, thought), (30, B), (40, C + USAGE + DONE)])
    assert (r.ttft_ms, r.ttfa_ms) == (10, 30)
    assert (r.token_events, r.visible_events) == (3, 2)


def test_an_answer_that_was_all_thought_is_a_success_without_visible_text() -> None:
    thought = event({"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]})
    r = record([(10, thought), (40, thought + delta("", "length") + USAGE + DONE)])
    assert (r.error_kind, r.ttft_ms, r.ttfa_ms) == (None, 10, None)
    assert (r.token_events, r.visible_events) == (2, 0)


@pytest.mark.parametrize(("content", "visible"), [("yes", 1), (None, 0), ("", 0)])
def test_a_reply_in_one_piece_says_whether_it_has_an_answer(
    content: str | None, visible: int
) -> None:
    message = {"content": content, "reasoning": "hm", "tool_calls": []}
    whole = {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    }
    made = exchange([(9, orjson.dumps(whole))], content_type="application/json")
    r = judge(made, dataclasses.replace(EXPECTED, stream=False)).record
    assert (r.error_kind, r.visible_events, r.token_events) == (None, visible, 0)


@pytest.mark.parametrize("reason", GOOD_ENDS)
def test_a_reply_that_ended_by_itself_is_a_success(reason: str) -> None:
    assert record([(50, A + delta("b", reason) + USAGE + DONE)]).error_kind is None


reasons = st.text(min_size=1, max_size=20) | st.sampled_from([*GOOD_ENDS, "abort", "error"])
reasons |= st.sampled_from(["content_filter", "repetition", "Stop", "stop "])


@given(reasons, reasons)
def test_any_other_end_of_any_choice_is_a_failure(first: str, second: str) -> None:
    ends = [
        event({"choices": [{"index": n, "delta": {"content": "a"}, "finish_reason": reason}]})
        for n, reason in enumerate((first, second))
    ]
    two = dataclasses.replace(EXPECTED, choices=2)
    r = judge(exchange([(50, b"".join(ends) + USAGE + DONE)]), two).record
    bad = {first, second} - set(GOOD_ENDS)
    wanted = "content_filter" if "content_filter" in bad else "bad_finish" if bad else None
    assert r.error_kind == wanted
    assert (r.error or "").isprintable()


@pytest.mark.parametrize("tokens", [3, 1])
@pytest.mark.parametrize("choices", [2, 4])
def test_of_several_choices_tpot_is_that_of_their_mean(choices: int, tokens: int) -> None:
    """Choices are written side by side: four of three tokens in 45 ms aren't one of twelve."""
    ends = [
        event({"choices": [{"index": n, "delta": {"content": "c"}, "finish_reason": "length"}]})
        for n in range(choices)
    ]
    before = [A * choices, B * choices] if tokens == 3 else [ends.pop(0)]
    last = b"".join(ends) + usage(5, choices * tokens) + DONE
    made = exchange([*zip((50, 70), before, strict=False), (95, last)])
    found = judge(made, dataclasses.replace(EXPECTED, choices=choices)).record
    assert (found.error_kind, found.completion_tokens) == (None, choices * tokens)
    assert found.tpot_ms == (22.5 if tokens == 3 else None)


def test_one_token_has_a_ttft_and_no_tpot() -> None:
    r = record([(50, delta("a", "stop") + usage(5, 1) + DONE)])
    assert (r.ttft_ms, r.latency_ms, r.tpot_ms, r.error) == (50, 50, None, None)


def test_a_token_without_text_is_a_success_without_a_ttft() -> None:
    r = record([(50, delta("", "stop") + usage(5, 1) + DONE)])
    assert (r.error_kind, r.ttft_ms, r.latency_ms, r.token_events) == (None, None, 50, 0)


def test_the_end_is_the_last_token_where_that_is_later_than_the_finish_event() -> None:
    r = record([(50, A), (60, delta("b", "stop")), (80, C), (81, usage(5, 3) + DONE)])
    assert r.latency_ms == 80


def test_without_streaming_only_the_latency_exists() -> None:
    whole = (
        b'{"choices": [{"index": 0, "message": {"content": "a b c"}, "finish_reason": "length"}],'
        b' "usage": {"prompt_tokens": 5, "completion_tokens": 3}}'
    )
    expected = dataclasses.replace(EXPECTED, stream=False)
    made = exchange([(40, whole[:20]), (90, whole[20:])], content_type="application/json")
    r = judge(made, expected).record
    assert (r.error_kind, r.latency_ms, r.completion_tokens) == (None, 90, 3)
    assert (r.ttft_ms, r.ttfa_ms, r.tpot_ms, r.max_gap_ms) == (None, None, None, None)


def test_each_choice_owes_a_finish_reason() -> None:
    two = dataclasses.replace(EXPECTED, choices=2)
    second = event({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]})
    one_ended = exchange([(50, A + C + USAGE + DONE)])
    assert judge(one_ended, two).record.error_kind == "truncated"
    both = exchange([(50, A + C + second + USAGE + DONE)])
    assert judge(both, two).record.error_kind is None


ERROR = event({"error": {"message": "EngineCore died", "code": 500}})
FAILURES: dict[str, tuple[list[tuple[float, bytes]], dict[str, object]]] = {
    "connect": ([], {"http_status": None, "t_sent_ns": None, "failure": Failure("connect", "x")}),
    "timeout_first_token": ([], {"failure": Failure("timeout_first_token", "x")}),
    "timeout_stall": (HEALTHY[:2], {"failure": Failure("timeout_stall", "x")}),
    "timeout_total": (HEALTHY[:2], {"failure": Failure("timeout_total", "x")}),
    "http_4xx": ([(5, b'{"error": "Unauthorized"}')], {"http_status": 401}),
    "http_429": ([(5, b"")], {"http_status": 429}),
    "http_5xx": ([(5, b"<html>bad gateway</html>")], {"http_status": 502}),
    "error_event": ([*HEALTHY[:2], (80, ERROR + DONE)], {}),
    "truncated": (HEALTHY[:3], {"failure": Failure("truncated", "closed in mid-reply")}),
    "protocol": ([(50, A + b"data: {broken\n\n" + C + USAGE + DONE)], {}),
    "empty": ([(50, delta("", "stop") + usage(5, 0) + DONE)], {}),
    "content_filter": ([(50, A + delta("", "content_filter") + USAGE + DONE)], {}),
    "bad_finish": ([(50, A + delta("b", "abort") + USAGE + DONE)], {}),
    "oversized": ([*HEALTHY[:2], (80, b"x" * (MOST_EVENT_BYTES + 1))], {}),
    "overlong": ([*HEALTHY[:2], (80, B * 2_000)], {}),
    "cancelled": (HEALTHY[:2], {"failure": Failure("cancelled", "x")}),
}


def test_every_error_kind_has_a_case_here() -> None:
    assert set(FAILURES) == set(get_args(ErrorKind))


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_has_its_kind_and_keeps_what_it_measured(kind: str) -> None:
    reads, changes = FAILURES[kind]
    r = record(reads, **changes)
    assert r.error_kind == kind
    assert r.error
    has_token = r.http_status == 200 and any(b'"content": "a"' in data for _, data in reads)
    assert (r.ttft_ms == 50) is has_token


@pytest.mark.parametrize(
    ("reads", "changes", "kind", "words"),
    [
        ([(50, A + C + USAGE)], {}, "truncated", "without [DONE]"),
        ([(50, A + B + USAGE + DONE)], {}, "truncated", "without a finish_reason"),
        ([(50, A + C + DONE)], {}, "protocol", "no usage"),
        (HEALTHY, {"content_type": "application/json"}, "protocol", "text/event-stream"),
        (HEALTHY, {"content_encoding": "gzip"}, "protocol", "gzip"),
        ([], {"http_status": 302}, "protocol", "HTTP 302"),
        ([(5, b'{"detail": "Not Found"}')], {"http_status": 404}, "http_4xx", "Not Found"),
        ([(50, A + delta("b", "abort") + USAGE + DONE)], {}, "bad_finish", "abort"),
        ([(50, A + delta("b", "\x1b[2J") + USAGE + DONE)], {}, "bad_finish", r"\x1b[2J"),
    ],
)
def test_what_is_almost_a_success_is_none(
    reads: list[tuple[float, bytes]], changes: dict[str, object], kind: str, words: str
) -> None:
    r = record(reads, **changes)
    assert r.error_kind == kind
    assert words in (r.error or "")


def test_an_error_event_tells_more_than_the_cut_that_follows_it() -> None:
    r = record([(50, A), (60, ERROR)], failure=Failure("truncated", "closed"))
    assert (r.error_kind, r.error) == ("error_event", "EngineCore died")


def test_a_key_that_the_server_echoes_is_masked() -> None:
    expected = dataclasses.replace(EXPECTED, secrets=("sk-very-secret",))
    made = exchange([(5, b'{"error": "bad key sk-very-secret"}')], http_status=401)
    assert judge(made, expected).record.error == "HTTP 401: bad key ***"


def test_a_finish_reason_of_any_choice_is_kept_when_the_stream_fails_later() -> None:
    r = record([(50, A), (60, C)], failure=Failure("truncated", "closed in mid-reply"))
    assert (r.finish_reason, r.completion_tokens, r.error_kind) == ("length", None, "truncated")


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
counts = st.integers(-2, 12) | any_json
usages = any_json | st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts},
    optional={
        "prompt_tokens_details": any_json | st.fixed_dictionaries({"cached_tokens": counts}),
        "total_tokens": any_json,
    },
)


@given(usages)
def test_no_usage_gives_a_success_counts_that_cant_be(found: object) -> None:
    said = event({"choices": [], "usage": found})
    r = record([(50, A + C + said + DONE)])
    for counted in (r.prompt_tokens, r.completion_tokens, r.cached_tokens):
        assert counted is None or (type(counted) is int and 0 <= counted <= 10**9)
    if r.error_kind is None:
        assert (r.completion_tokens or 0) >= 1
        assert r.prompt_tokens is None or (r.cached_tokens or 0) <= r.prompt_tokens
    else:
        assert r.error_kind in ("protocol", "empty")
    lines = f"{','.join(COLUMNS)}\n{csv_lines([r])}".encode()
    assert len(rows_of(lines, column_types(RequestRecord))) == 1  # else the whole run were lost


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_tokens": -5},
        {"prompt_tokens": "5"},
        {"prompt_tokens": 5.5},
        {"prompt_tokens": True},
        {"prompt_tokens": 10**30},
        {"completion_tokens": -3},
        {"completion_tokens": [3]},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": {"cached_tokens": 6}},  # of 5
        {"prompt_tokens_details": {"cached_tokens": "4"}},
        {"prompt_tokens_details": [4]},
    ],
)
def test_usage_that_cant_be_true_fails_and_is_shown(changes: dict[str, object]) -> None:
    counts = {"prompt_tokens": 5, "completion_tokens": 3, **changes}
    r = record([(50, A + C + event({"choices": [], "usage": counts}) + DONE)])
    assert r.error_kind == "protocol"
    assert next(iter(changes)) in (r.error or "")
    assert r.ttft_ms == 50


@pytest.mark.parametrize("cached", [None, 0, 5, 5.0])
def test_usage_that_can_be_true_is_taken(cached: float | None) -> None:
    counts = {"prompt_tokens": 5.0, "completion_tokens": 3}
    said = {**counts, "prompt_tokens_details": {"cached_tokens": cached}}
    r = record([(50, A + C + event({"choices": [], "usage": said}) + DONE)])
    assert (r.error_kind, r.prompt_tokens, r.cached_tokens) == (None, 5, cached)


@pytest.mark.parametrize(
    ("words", "finish", "valid"),
    [
        (('{"n', '": ', "3}"), "stop", 1),
        (('{"n', '": ', "3}"), "length", 1),  # whole by chance
        (('{"n', '": ', "3"), "length", 0),
        (("not", " ", "JSON"), "stop", 0),
        (('{"n', '": ', "3}"), "tool_calls", None),
    ],
)
def test_an_answer_is_held_against_its_form(
    words: tuple[str, ...], finish: str, valid: int | None
) -> None:
    schema = {"type": "object", "required": ["n"]}
    form = form_of({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    asked = dataclasses.replace(EXPECTED, keep_text=True, form=form)
    events = [*map(delta, words[:-1]), delta(words[-1], finish), usage(5, 3), event("[DONE]")]
    reads = [(10.0 * place, data) for place, data in enumerate(events, start=1)]
    assert judge(exchange(reads), asked).record.answer_valid == valid
    assert judge(exchange(reads), EXPECTED).record.answer_valid is None


def test_a_failure_has_no_answer_to_hold() -> None:
    form = form_of({"type": "json_object"})
    asked = dataclasses.replace(EXPECTED, keep_text=True, form=form)
    cut = judge(exchange([(10.0, delta("{}"))]), asked).record
    assert cut.error_kind == "truncated"
    assert cut.answer_valid is None


@pytest.mark.parametrize(
    ("status", "said", "key"),
    [
        (
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_completion_tokens",
        ),
        (422, "max_completion_tokens: Extra inputs are not permitted", "max_tokens"),
        (400, "Unrecognized request argument supplied: max_completion_tokens", "max_tokens"),
        (400, "max_tokens must be at least 1, got 0.", None),
        (400, "max_tokens=5000 cannot be greater than max_model_len=2048.", None),
        (400, "'top_k' is not supported", None),
        (500, "'max_tokens' is not supported", None),
    ],
)
def test_a_server_that_wants_another_name_of_the_limit_says_which_key_to_set(
    status: int, said: str, key: str | None
) -> None:
    body = orjson.dumps({"error": {"message": said, "param": "max_tokens", "code": "x"}})
    found = record([(5, body)], http_status=status, content_type="application/json")
    advice = f"max_tokens_field: {key}"
    assert (advice in (found.error or "")) == (key is not None)
    assert said.split(" is ", maxsplit=1)[0] in (found.error or "")
