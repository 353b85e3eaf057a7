"""Prompts of recorded sessions: exact lengths, and equal text for what was equal, no more."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.prompts.count import EstimateCounter
from vllm_bench.prompts.prompt import Prompt, PromptError, PromptSet, PromptSource
from vllm_bench.prompts.source import load_source
from vllm_bench.sessions.lengths import divided, with_lengths
from vllm_bench.sessions.possible import possible_hits
from vllm_bench.sessions.read import read_sessions
from vllm_bench.sessions.session import Session, SessionError, Sessions, Turn
from vllm_bench.sessions.texts import session_prompts

from tests.prompts.test_fit import COUNTERS, Counting, uneven, words
from tests.sessions.made import DATA, lines, read
from tests.sessions.test_lines import MLPERF, MULTI
from tests.support.beside.waiting import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = load_source("sample", cache_dir=Path("nowhere"))
PAGE = 16  # of a server's cache


def of_data(name: str) -> Sessions:
    found = read_sessions(DATA / name)
    assert found is not None
    return found


def made(
    sessions: Sessions,
    counter: Counting | None = None,
    source: PromptSource = SAMPLE,
    seed: int = 1,
    *,
    live: bool = False,
) -> PromptSet:
    return session_prompts(sessions, source, counter or Counting(uneven), seed, live=live)


def alike(one: Sequence[object], other: Sequence[object]) -> int:
    """How many things two sequences begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def by_session(sessions: Sessions, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    left = list(prompts)
    return [[left.pop(0) for _ in session.turns] for session in sessions.sessions]


def served(sessions: Sessions, prompts: Sequence[Prompt]) -> list[int]:
    """The tokens of each prompt's text that a cache of pages finds, all sent in order.

    `uneven` counts a word's tokens by itself: a beginning of words is one of tokens.
    """
    seen: list[list[str]] = []
    found = []
    for session in by_session(sessions, prompts):
        if not sessions.blocks_shared:
            seen = []
        for prompt in session:
            parts = prompt.text.split(" ")
            same = max((alike(parts, other) for other in seen), default=0)
            tokens = uneven(" ".join(parts[:same])) if same else 0
            found.append(min(tokens, (prompt.tokens or 0) - 1) // PAGE * PAGE)
            seen.append(parts)
    return found


LENGTHS = ("weka", "bailian.jsonl", "tracelab.jsonl")


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("counter", COUNTERS)
def test_each_prompt_has_the_recorded_tokens(name: str, counter: str) -> None:
    sessions = of_data(name)
    found = made(sessions, counter=Counting(COUNTERS[counter]))
    turns = [turn for session in sessions.sessions for turn in session.turns]
    for prompt, turn in zip(found.prompts, turns, strict=True):
        assert prompt.tokens == COUNTERS[counter](prompt.text)
        assert prompt.tokens == pytest.approx(turn.prompt_tokens, abs=1)


@pytest.mark.parametrize("name", LENGTHS)
def test_a_cache_finds_what_was_equal(name: str) -> None:
    sessions = of_data(name)
    found = served(sessions, made(sessions).prompts)
    possible = [hit for session in possible_hits(sessions, PAGE).by_turn for hit in session]
    for here, there in zip(found, possible, strict=True):
        assert here == pytest.approx(there, abs=PAGE)


@pytest.mark.parametrize("divisor", [2, 5])
def test_shorter_prompts_begin_alike_in_the_same_places(divisor: int) -> None:
    whole = of_data("weka")
    sessions = divided(whole, divisor)
    turns = [turn for session in sessions.sessions for turn in session.turns]
    before = [turn for session in whole.sessions for turn in session.turns]
    assert [t.prompt_tokens for t in turns] == [
        -(-(t.prompt_tokens or 0) // divisor) for t in before
    ]
    prompts = made(sessions).prompts
    assert [p.tokens for p in prompts] == pytest.approx([t.prompt_tokens for t in turns], abs=1)
    possible = [hit for session in possible_hits(sessions, PAGE).by_turn for hit in session]
    for here, there in zip(served(sessions, prompts), possible, strict=True):
        assert here == pytest.approx(there, abs=PAGE)


chains = st.lists(st.integers(1, 3), min_size=0, max_size=9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(chains, st.integers(1, 63)), min_size=1, max_size=8),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_equal_beginnings_of_blocks_are_equal_beginnings_of_text(
    listed: list[tuple[list[int], int]], shared: bool, seed: int
) -> None:
    # An id means a block in its past: it is numbered with that.
    def ids(chain: list[int]) -> tuple[int, ...]:
        return tuple(int("".join(map(str, chain[: n + 1]))) for n in range(len(chain)))

    sessions = Sessions(
        "weka",
        tuple(
            Session(str(n), None, (Turn(prompt_tokens=64 * len(c) + more, block_ids=ids(c)),))
            for n, (c, more) in enumerate(listed)
        ),
        64,
        blocks_shared=shared,
    )
    found = made(sessions, seed=seed).prompts
    for prompt, (chain, more) in zip(found, listed, strict=True):
        assert prompt.tokens == pytest.approx(max(8, 64 * len(chain) + more), abs=1)
    for prompt, (chain, _) in zip(found, listed, strict=True):
        for other, (there, _) in zip(found, listed, strict=True):
            if prompt is other:
                continue
            same = alike(chain, there) if shared else 0
            mine = prompt.text.split(" ")
            parts = mine[: alike(mine, other.text.split(" "))]
            tokens = uneven(" ".join(parts)) if parts else 0
            assert 64 * same - 7 <= tokens <= 64 * same + PAGE + 8


@pytest.mark.process
def test_every_process_makes_the_same() -> None:
    code = (
        "import sys; sys.path[:0] = ['bench', '.']\n"
        "from tests.sessions.test_texts import made, of_data\n"
        "print(made(of_data('weka')).sha256)"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_S,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert done == [made(of_data("weka")).sha256] * 2


def test_another_seed_has_other_texts() -> None:
    sessions = of_data("weka")
    one, other = made(sessions), made(sessions, seed=2)
    assert one.sha256 != other.sha256
    assert not {p.text for p in one.prompts} & {p.text for p in other.prompts}


def test_an_estimate_will_do() -> None:
    sessions = of_data("weka")
    found = session_prompts(sessions, SAMPLE, EstimateCounter(), 1)
    turns = [turn for session in sessions.sessions for turn in session.turns]
    for prompt, turn in zip(found.prompts, turns, strict=True):
        assert prompt.tokens == pytest.approx(turn.prompt_tokens, rel=0.02)
    assert found.counted_by == "estimate"


def test_a_prompt_shorter_than_the_template_is_raised_and_counted() -> None:
    turns = (Turn(prompt_tokens=3), Turn(after=(0,), history=0, prompt_tokens=5))
    found = made(Sessions("tracelab", (Session("a", None, turns),)))
    assert [prompt.tokens for prompt in found.prompts] == pytest.approx([8, 8], abs=1)
    assert any(note.startswith("tracelab: 2 prompts raised to 8 ") for note in found.notes)


def test_a_server_that_refuses_a_prompt_is_told_of() -> None:
    counter = Counting(lambda text: None if uneven(text) > 600 else uneven(text))
    with pytest.raises(PromptError, match="MAX_MODEL_LEN"):
        made(of_data("weka"), counter=counter)


def test_more_than_can_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm_bench.sessions.texts.MOST_TOKENS", 1000)
    with pytest.raises(PromptError, match="num_requests"):
        made(of_data("weka"))


# Answers of this server in the history


def test_live_turns_are_what_they_add() -> None:
    turns = (
        Turn(prompt_tokens=100),
        Turn(after=(0,), history=0, prompt_tokens=40),  # added to the one before
        Turn(after=(1,), prompt_tokens=90),
    )
    found = made(Sessions("tracelab", (Session("a", None, turns),)), live=True).prompts
    assert [prompt.tokens for prompt in found] == pytest.approx([100, 7 + 40, 90], abs=1)
    assert len({prompt.text.split()[0] for prompt in found}) == 3


# Recorded texts


def test_texts_are_sent_as_recorded(tmp_path: Path) -> None:
    sessions = read(tmp_path, lines(MLPERF))
    found = made(sessions)
    turns = sessions.sessions[0].turns
    assert [prompt.messages for prompt in found.prompts] == [turn.messages for turn in turns]
    assert [prompt.tokens for prompt in found.prompts] == [uneven(p.text) for p in found.prompts]
    live = made(sessions, live=True).prompts
    assert [prompt.messages for prompt in live] == [turn.new_messages for turn in turns]


def test_an_answer_that_nobody_recorded_has_text_of_its_length(tmp_path: Path) -> None:
    sessions = read(tmp_path, lines([MULTI]))
    first, second, third = made(sessions).prompts
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert uneven(second.messages[1].content) == pytest.approx(7 + 20, abs=1)
    assert third.messages[:3] == second.messages
    assert uneven(third.messages[3].content) == pytest.approx(7 + 50, abs=1)
    assert first.messages == second.messages[:1]


def test_texts_have_the_tokens_that_this_server_counts(tmp_path: Path) -> None:
    sessions = with_lengths(read(tmp_path, lines(MLPERF)), Counting(words))
    prompts = made(sessions, counter=Counting(words)).prompts
    turns = sessions.sessions[0].turns
    assert [turn.prompt_tokens for turn in turns] == [prompt.tokens for prompt in prompts]
    # Of a counter without a template; the last has no recorded answer.
    assert [turn.output_tokens for turn in turns] == [3, 1, None]


def test_the_lengths_of_unrecorded_answers_count_too(tmp_path: Path) -> None:
    sessions = with_lengths(read(tmp_path, lines([MULTI])), Counting(words))
    prompts = made(sessions, counter=Counting(words)).prompts
    turns = sessions.sessions[0].turns
    assert [turn.prompt_tokens for turn in turns] == [prompt.tokens for prompt in prompts]
    assert [turn.output_tokens for turn in turns] == [20, 50, None]


def test_texts_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="length_divisor"):
        divided(read(tmp_path, lines(MLPERF)), 2)
