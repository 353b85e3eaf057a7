"""Replies that aren't what was asked for, or were held back on their way: both sides of limits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import facts_of as facts_of_run
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import (
    made_info,
    made_record,
    server_row,
    whole_reply_record,
    write_run,
    write_server_rows,
)
from tests.support.open_runs import facts_of
from tests.verdict.judging import INVALID, SUSPECT, families_of, healthy, severity_of, stamped


@pytest.mark.parametrize(
    ("missing", "expected"), [(0, None), (2, None), (3, SUSPECT), (9, SUSPECT), (12, INVALID)]
)
def test_replies_without_a_first_token_are_missing_in_ttft(tmp_path, missing, expected):
    nothing = {"ttft_ms": None, "tpot_ms": None, "token_events": 0, "token_reads": 0}
    records = [made_record(i, **(nothing if 20 <= i < 20 + missing else {})) for i in range(208)]
    assert severity_of(facts_of(tmp_path, records), "no_first_token") == expected


def test_a_run_without_any_ttft_is_never_valid_unless_it_asked_for_none(tmp_path):
    records = [whole_reply_record(i) for i in range(100)]
    assert judge(facts_of(tmp_path, records)).level == "INVALID"
    assert judge(facts_of(tmp_path, records, scenario={"stream": False})).level == "VALID"


# ---- tokens that were held back ----


def held_back(folder, events, gap_ms=10.0, ttft_ms=100.0, **changes):
    """Replies whose events come in reads of so many, each read at the time of its last event."""
    ends = np.cumsum(events)
    ms = [ttft_ms + gap_ms * (end - 1) for end in ends]
    times = {"ttft_ms": ms[0], "latency_ms": ms[-1], "max_gap_ms": None}
    tokens = {name: int(ends[-1]) for name in ("token_events", "completion_tokens", "max_tokens")}
    pace = {"tpot_ms": (ms[-1] - ms[0]) / (int(ends[-1]) - 1), "token_reads": len(events)}
    records = healthy(60, **times, **tokens, **pace)
    return stamped(facts_of(folder, records, **changes), events=list(events), ms=ms)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([1] * 100, {}),
        ([1] * 70 + [2] * 15, {}),  # 1.18 a read
        ([1] * 60 + [2] * 20, {"gaps": INVALID}),  # 1.25, but each first event by itself
        # Four at a time: the first comes 30 ms late, of 130; the decode of 990 ms loses as much
        ([4] * 25, {"gaps": INVALID, "TTFT": INVALID, "pace": SUSPECT}),
        ([50, 50], {"gaps": INVALID, "TTFT": INVALID, "pace": INVALID}),
        ([100], {"all": INVALID}),  # TTFT is the latency
    ],
)
def test_what_comes_in_lumps_costs_the_figures_that_it_moves(tmp_path, events, expected):
    assert families_of(held_back(tmp_path, events), "buffered") == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([1] * 100, {}),
        ([4] * 25, {}),  # a token of each choice
        ([4] + [6] * 16, {"gaps": INVALID}),
        ([8] * 12, {"gaps": INVALID, "TTFT": INVALID, "pace": SUSPECT}),
    ],
)
def test_tokens_of_several_choices_come_together_by_right(tmp_path, events, expected):
    facts = held_back(tmp_path, events, scenario={"extra_body": {"n": 4}})
    assert families_of(facts, "buffered") == expected
    assert families_of(facts, "several_choices") == {"gaps": INVALID}
    assert families_of(held_back(tmp_path, [1] * 9), "several_choices") == {}


def test_the_error_of_a_held_back_first_token_is_what_ttft_loses(tmp_path):
    facts = held_back(tmp_path, [4] * 25, ttft_ms=2000.0)
    assert judge(facts).of("TTFT") == "VALID"  # 30 ms of 2 s
    assert judge(facts).of("gaps") == "INVALID"


def test_several_tokens_in_an_event_are_not_held_back(tmp_path):
    records = healthy(completion_tokens=400, max_tokens=400)  # 20 events of 20 tokens
    facts = stamped(
        facts_of(tmp_path, records), events=[1] * 20, ms=[100.0 + 45 * i for i in range(20)]
    )
    assert severity_of(facts, "buffered") is None
    assert judge(facts).level == "VALID"


def test_a_stream_of_one_event_has_a_latency_for_a_ttft(tmp_path):
    facts = facts_of(tmp_path, healthy(token_events=1, token_reads=1))
    assert families_of(facts, "buffered") == {"all": SUSPECT}
    short = healthy(token_events=1, token_reads=1, completion_tokens=2, max_tokens=2)
    assert families_of(facts_of(tmp_path, short), "buffered") == {}


def test_without_stamps_the_rows_alone_show_it(tmp_path):
    facts = facts_of(tmp_path, healthy(token_reads=1))
    assert families_of(facts, "buffered") == {"all": INVALID}


@pytest.mark.parametrize(
    ("trips_ms", "expected"),
    [
        ([0.1], {"TTFT": SUSPECT}),
        ([None], {"TTFT": SUSPECT}),  # it opened no connection, or is an older run
        ([15.0], {}),
        ([0.1, 29.9], {}),  # the mean of its sending processes
        ([29.9, None], {}),
    ],
)
def test_how_far_the_server_is_need_not_stand_in_rows(tmp_path, trips_ms, expected):
    """Streams connect before the start: of them no request opens a connection."""
    records = healthy(connect_ms=None)
    told = [{"worker": number, "trip_ms": ms} for number, ms in enumerate(trips_ms)]
    path = write_run(tmp_path, records, made_info(records, client_health={"workers": told}))
    means = {"ttft_count": 4, "ttft_mean_ms": 70.0}  # of 100
    write_server_rows(path, [server_row(float(t), **means) for t in range(26)])
    assert families_of(facts_of_run(load_run(path)), "buffered") == expected


@pytest.mark.parametrize(
    ("server_ms", "connect_ms", "lag_ms", "expected"),
    [
        (95.0, None, 0.1, {}),
        (81.0, None, 0.1, {}),  # 19 ms
        (70.0, None, 0.1, {"TTFT": SUSPECT}),
        (70.0, 15.0, 0.1, {}),  # the server is far away
        (70.0, None, 15.0, {}),  # the client was late itself
        (5.0, 15.0, 0.1, {"TTFT": SUSPECT}),  # the API server may be the cause: never worse
    ],
)
def test_a_first_token_that_is_late_outside_of_the_server_is_doubted(
    tmp_path, server_ms, connect_ms, lag_ms, expected
):
    records = healthy(connect_ms=connect_ms)
    health = {"loop_lag_ms": {"ticks": 1000, "p99": lag_ms}}
    path = write_run(tmp_path, records, made_info(records, client_health=health))
    means = {"ttft_count": 4, "ttft_mean_ms": server_ms}
    write_server_rows(path, [server_row(float(t), **means) for t in range(26)])
    assert families_of(facts_of_run(load_run(path)), "buffered") == expected


# ---- usage, model, answers ----


@pytest.mark.parametrize(("wrong", "expected"), [(1, None), (2, SUSPECT), (9, INVALID)])
@pytest.mark.parametrize(
    "lie",
    [
        {"completion_tokens": 21},  # of at most 20
        {"completion_tokens": 19},  # and 20 events with tokens
    ],
)
def test_usage_that_cannot_be_is_doubted(tmp_path, lie, wrong, expected):
    records = [made_record(i, **(lie if 10 <= i < 10 + wrong else {})) for i in range(108)]
    facts = facts_of(tmp_path, records)
    assert severity_of(facts, "usage_contradicts") == expected
    assert judge(facts).of("TTFT") == "VALID"


def test_two_choices_may_be_twice_as_long(tmp_path):
    records = healthy(completion_tokens=40)
    facts = facts_of(tmp_path, records, scenario={"extra_body": {"n": 2}})
    assert severity_of(facts, "usage_contradicts") is None


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (None, None),
        (250, None),
        (248, None),  # a token or two of a template change nothing
        (246, SUSPECT),
        (200, SUSPECT),  # the same for all: perhaps a template
    ],
)
def test_prompts_that_arrived_otherwise_than_counted_are_doubted(tmp_path, planned, expected):
    facts = facts_of(tmp_path, healthy(prompt_tokens_planned=planned))
    assert severity_of(facts, "usage_contradicts") == expected


@pytest.mark.parametrize(("longest", "expected"), [(252, None), (260, SUSPECT), (4000, INVALID)])
def test_prompts_that_were_cut_are_not_what_was_asked_for(tmp_path, longest, expected):
    records = [
        dataclasses.replace(row, prompt_tokens_planned=250 + (longest - 250) * (place % 2))
        for place, row in enumerate(healthy())
    ]
    assert severity_of(facts_of(tmp_path, records), "usage_contradicts") == expected


@pytest.mark.parametrize(
    ("replied_as", "expected"),
    [
        (None, None),
        ({"openai/gpt-oss-20b": 100}, None),
        ({"/models/gpt-oss": 100}, None),  # its root
        ({"oss": 100}, None),  # another name that the server lists
        ({"openai/gpt-oss-20b": 99, "tiny": 1}, SUSPECT),
        ({"tiny": 100}, SUSPECT),
        (["tiny"], None),  # edited
    ],
)
def test_replies_of_a_model_that_nobody_asked_for_are_doubted(tmp_path, replied_as, expected):
    names = {"model_root": "/models/gpt-oss", "aliases": ["oss"], "replied_as": replied_as}
    assert severity_of(facts_of(tmp_path, healthy(), server=names), "other_model") == expected


@pytest.mark.parametrize(("silent", "expected"), [(0, None), (1, None), (2, SUSPECT)])
def test_answers_without_text_are_told_of_conversations(tmp_path, silent, expected):
    def turns(of):
        for i in range(108):
            visible = {} if not 10 <= i < 10 + silent else {"visible_events": 0}
            yield made_record(i, **visible, **({"turn": 1 + i % 2} if of else {}))

    talk = facts_of(tmp_path, list(turns(True)), scenario={"conversations": {"turns": 2}})
    assert severity_of(talk, "answers_without_text") == expected
    single = facts_of(tmp_path, list(turns(False)))
    assert severity_of(single, "answers_without_text") is None
