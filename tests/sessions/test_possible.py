"""Possible hits: by hand, by brute force, and as others have counted them in real files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.sessions.lengths import divided
from vllm_bench.sessions.possible import possible_hits
from vllm_bench.sessions.read import read_sessions
from vllm_bench.sessions.session import Session, Sessions, Turn
from vllm_bench.traces.trace import read_trace

from tests.sessions.made import DATA, SHARED

HAVE_SHARED = pytest.mark.skipif(
    not (SHARED / "weka").is_dir(), reason=f"no recorded sessions in {SHARED}"
)
# Requests, prompt tokens, possible hits, output tokens, longest prompt.
WEKA = {
    "0057": (8, 114_011, 98_624, 1_821, 15_225),
    "0174": (6, 115_836, 93_440, 1_776, 22_243),
    "0187": (3, 35_830, 21_632, 788, 14_126),
    "0291": (32, 2_254_119, 2_022_592, 19_504, 101_059),
    "0460": (12, 164_269, 146_368, 1_377, 16_289),
    "0504": (3, 33_739, 21_952, 337, 11_306),
    "0546": (4, 52_355, 38_400, 350, 13_891),
}


def made(*listed: tuple[int, tuple[int, ...]], size: int = 64, shared: bool = True) -> Sessions:
    """One session a prompt: its tokens, and its blocks."""
    sessions = (
        Session(str(n), float(n), (Turn(prompt_tokens=tokens, block_ids=ids),))
        for n, (tokens, ids) in enumerate(listed)
    )
    return Sessions("bailian", tuple(sessions), size, blocks_shared=shared)


def hits(sessions: Sessions, size: int | None = None) -> list[int]:
    return [sum(session) for session in possible_hits(sessions, size).by_turn]


def test_whole_blocks_are_found_and_never_a_prompts_last_token() -> None:
    twice = made((1024, tuple(range(16))), (1024, tuple(range(16))))
    assert hits(twice) == [0, 960]
    assert hits(twice, 16) == [0, 1008]
    assert hits(twice, 32) == [0, 992]


def test_ids_of_one_session_mean_nothing_in_another() -> None:
    prompts = ((200, (1, 2, 3)), (200, (1, 2, 3)))
    assert hits(made(*prompts, shared=False)) == [0, 0]
    assert hits(made(*prompts)) == [0, 192]


def test_equal_ids_after_another_past_are_not_found() -> None:
    assert hits(made((200, (1, 2, 3)), (200, (4, 2, 3)))) == [0, 0]


def test_a_part_of_a_block_is_found_as_far_as_it_went() -> None:
    # Of block 2 first 36 tokens were there, then 64.
    prompts = made((100, (1, 2)), (300, (1, 2, 3, 4, 5)), (300, (1, 2, 3, 4, 9)))
    assert hits(prompts, 16) == [0, 96, 256]
    assert hits(prompts) == [0, 64, 256]


def test_without_ids_a_prompt_begins_with_the_one_before() -> None:
    turns = (
        Turn(prompt_tokens=100, output_tokens=50),
        Turn(after=(0,), history=0, prompt_tokens=170),
        Turn(after=(1,), prompt_tokens=90),
        Turn(after=(2,), history=2, prompt_tokens=91),
    )
    found = possible_hits(Sessions("tracelab", (Session("a", None, turns),)))
    assert found.by_turn == ((0, 96, 0, 80),)
    assert found.share == pytest.approx(176 / 451)


BLOCK = 4


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.lists(st.integers(1, 3), min_size=10, max_size=10)),
        max_size=12,
    ),
    st.sampled_from([1, 2, 4, 8]),
)
def test_hits_are_those_of_equal_beginnings(listed: list[tuple[int, list[int]]], size: int) -> None:
    prompts = [(n, ids[: -(-n // BLOCK)]) for n, ids in listed]
    found = hits(made(*((n, tuple(ids)) for n, ids in prompts), size=BLOCK), size)
    cache: set[tuple[tuple[int, int], ...]] = set()
    for (tokens, ids), hit in zip(prompts, found, strict=True):
        text = [(ids[at // BLOCK], at % BLOCK) for at in range(tokens)]
        whole = [tuple(text[: k * size]) for k in range(1, tokens // size + 1)]
        there = [len(chain) for chain in whole if chain in cache and len(chain) <= tokens - 1]
        assert hit == max(there, default=0)
        cache.update(whole)


def test_a_small_file_by_hand() -> None:
    found = read_sessions(DATA / "weka" / "agent.json")
    assert found is not None
    # 512 of 700 (its last whole block is 8), 640 of 840; of the second child blocks 20 and 21.
    assert possible_hits(found).by_turn == ((0, 512, 640, 0, 256, 128, 256, 832, 960, 256),)


@pytest.mark.parametrize("divisor", [1, 3, 16])
def test_shorter_prompts_have_as_much_in_common(divisor: int) -> None:
    found = read_sessions(DATA / "weka")
    assert found is not None
    whole, shorter = possible_hits(found, 1), possible_hits(divided(found, divisor), 1)
    assert shorter.share == pytest.approx(whole.share, abs=0.02)


@HAVE_SHARED
@pytest.mark.parametrize("name", WEKA)
def test_recorded_sessions_are_as_others_counted_them(name: str) -> None:
    found = read_sessions(SHARED / "weka" / f"trace_{name}.json")
    assert found is not None
    turns = [turn for session in found.sessions for turn in session.turns]
    assert (
        len(turns),
        sum(turn.prompt_tokens or 0 for turn in turns),
        possible_hits(found).tokens,
        sum(turn.output_tokens or 0 for turn in turns),
        max(turn.prompt_tokens or 0 for turn in turns),
    ) == WEKA[name]


@HAVE_SHARED
def test_a_trace_of_mooncake_has_the_hits_that_others_counted() -> None:
    trace = read_trace(SHARED / "mooncake" / "synthetic_trace.jsonl")
    prompts = ((r.prompt_tokens or 0, r.block_ids or ()) for r in trace.requests)
    found = made(*prompts, size=512)
    assert possible_hits(found, 16).share == pytest.approx(0.6512, abs=5e-5)


@HAVE_SHARED
def test_two_children_of_a_recorded_session_run_beside_each_other() -> None:
    found = read_sessions(SHARED / "weka" / "trace_0291.json")
    assert found is not None
    (session,) = found.sessions
    first, second = (
        next(n for n, turn in enumerate(session.turns) if turn.agent == name)
        for name in ("agent_001", "agent_002")
    )
    assert session.turns[first].after == session.turns[second].after == (15,)
    # The answer before ended at 1,100.6 s; both began at about 1,101.
    assert 0 < session.turns[first].wait_s < 1
    assert 0 < session.turns[second].wait_s < 1
    back = session.turns[28]
    assert back.after == (15, 20, 27)
    assert back.wait_s == pytest.approx(28, abs=1)  # and not 108, its think_time


@HAVE_SHARED
@pytest.mark.parametrize(
    ("folder", "kind", "sessions", "turns"),
    [
        ("weka", "weka", 7, 68),
        ("bailian", "bailian", 1, 1),
        ("tracelab", "tracelab", 1, 10),
        ("mlperf_agentic", "mlperf", 2, 79),
        ("otel", "opentelemetry", 7, 19),
    ],
)
def test_whole_folders_are_read(folder: str, kind: str, sessions: int, turns: int) -> None:
    found = read_sessions(SHARED / folder)
    assert found is not None
    assert (found.kind, len(found.sessions), found.turns) == (kind, sessions, turns)
    assert found.left_out == {"files that hold no sessions": 1}
