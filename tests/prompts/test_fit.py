"""Prompts of the asked length, drawn alike in every process, each as often as the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.prompts.fit import Draw, TokenRange, choose_prompts
from vllm_bench.prompts.prompt import (
    CountedBy,
    Message,
    Prompt,
    PromptError,
    PromptSet,
    PromptSource,
    user_prompt,
)

WORDS = [
    *("ab", "cider", "of", "mathematics", "extraordinarily"),
    *("so", "the", "数据科学入门", "naïve"),
]


class Counting:
    """A counter of known behaviour that remembers what it was asked."""

    method: CountedBy = "server"
    notes: tuple[str, ...] = ()

    def __init__(self, tokens_of: Callable[[str], int | None]) -> None:
        self.tokens_of = tokens_of
        self.asked: list[Prompt] = []

    def count(self, prompts: Sequence[Prompt]) -> list[int | None]:
        self.asked += prompts
        return [self.tokens_of(prompt.text) for prompt in prompts]


def words(text: str) -> int:
    return len(text.split())


def uneven(text: str) -> int:
    """A template of 7 tokens; long words fall into pieces; line breaks count, as in real BPE."""
    return 7 + sum(1 + len(w.encode()) // 5 for w in re.findall(r"\S+", text)) + text.count("\n\n")


def characters(text: str) -> int:
    return 3 + len(text)


COUNTERS = {"words": words, "uneven": uneven, "characters": characters}


def made_source(number: int, longest: int = 40) -> list[Prompt]:
    """Prompts of 1 to `longest` words, all different from their first word on."""
    return [
        user_prompt(
            f"set:{i}", " ".join([f"No{i}", *(WORDS[(i + k) % len(WORDS)] for k in range(n - 1))])
        )
        for i in range(number)
        for n in [1 + (i * 7) % longest]
    ]


def choose(
    source: Sequence[Prompt],
    counter: Counting,
    count: int = 10,
    target: int | None = 20,
    *,
    fit: Literal["natural", "packed"] = "natural",
    seed: int = 1,
    name: str = "set",
) -> PromptSet:
    draw = Draw(PromptSource(name, tuple(source), (), {"empty": 2}), count, seed, counter)
    return choose_prompts(draw, fit, target)


def error(*arguments: object, **settings: object) -> str:
    with pytest.raises(PromptError) as raised:
        choose(*arguments, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def figures_in(found: PromptSet) -> list[list[int]]:
    """The numbers in each note."""
    return [[int(number) for number in re.findall(r"\d+", note)] for note in found.notes]


fits = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63 - 1),
        "count": st.integers(1, 120),
        "target": st.integers(12, 60),
        "number": st.integers(30, 150),
        "counter": st.sampled_from(sorted(COUNTERS)),
    }
)


# natural


@pytest.mark.parametrize(
    ("target", "low", "high"), [(None, 50, 500), (256, 128, 512), (1, 1, 2), (7, 4, 14)]
)
def test_natural_prompts_have_half_to_twice_the_target(
    target: int | None, low: int, high: int
) -> None:
    wanted = TokenRange.around(target)
    assert (wanted.low, wanted.high) == (low, high)
    lengths = (low - 1, low, high, high + 1, None)
    assert [n in wanted for n in lengths] == [False, True, True, False, False]


@settings(max_examples=60, deadline=None)
@given(fits)
def test_natural_prompts_are_in_range_and_used_equally_often(given_: dict[str, Any]) -> None:
    tokens_of = COUNTERS[given_["counter"]]
    source = made_source(given_["number"])
    low, high = (given_["target"] + 1) // 2, given_["target"] * 2
    fitting = {p.id for p in source if low <= tokens_of(p.text) <= high}
    if not fitting:
        return
    found = choose(
        source, Counting(tokens_of), given_["count"], given_["target"], seed=given_["seed"]
    )
    uses = Counter(p.id for p in found.prompts)
    assert len(found.prompts) == given_["count"]
    assert set(uses) <= fitting
    assert len(uses) == found.distinct == min(len(fitting), given_["count"])
    assert max(uses.values()) - min(uses.values()) <= 1
    assert found.max_uses == max(uses.values())
    assert all(p.tokens == tokens_of(p.text) for p in found.prompts)


@settings(max_examples=30, deadline=None)
@given(fits, st.sampled_from(["natural", "packed"]))
def test_a_longer_draw_begins_with_the_shorter_one(
    given_: dict[str, Any], fit: Literal["natural", "packed"]
) -> None:
    source, tokens_of = made_source(given_["number"]), COUNTERS[given_["counter"]]
    short, long = (
        choose(source, Counting(tokens_of), n, 40, fit=fit, seed=given_["seed"]).prompts
        for n in (given_["count"], given_["count"] + 37)
    )
    assert long[: len(short)] == short


def test_prompts_are_repeated_by_whole_permutations_each_in_its_own_order() -> None:
    source = made_source(40, longest=30)
    found = choose(source, Counting(words), count=5000, target=20)
    turns = [found.prompts[i : i + found.distinct] for i in range(0, 4000, found.distinct)]
    assert len({frozenset(p.id for p in turn) for turn in turns}) == 1
    assert len(set(turns)) > 10
    assert figures_in(found) == [[found.distinct, 5000, found.max_uses - 1, found.max_uses]]


def test_counting_stops_when_enough_prompts_fit() -> None:
    counter = Counting(words)
    choose(made_source(15_000), counter, count=100, target=20)
    assert len(counter.asked) < 500


def test_prompts_that_by_their_bytes_cannot_fit_are_never_counted() -> None:
    counter = Counting(words)
    source = [user_prompt(f"short:{i}", "x" * 9) for i in range(500)]
    source += [user_prompt("long", "word " * 5000), user_prompt("right", "word " * 12)]
    found = choose(source, counter, count=2, target=20)
    assert [p.id for p in found.prompts] == ["right", "right"]
    assert len(counter.asked) == 2, "the probe for the overhead, and the right one"


def test_a_prompt_that_the_server_refuses_does_not_fit() -> None:
    counter = Counting(lambda text: None if "No3 " in text else words(text))
    found = choose(made_source(10), counter, count=50, target=20)
    assert "set:3" not in {p.id for p in found.prompts}


def test_each_turn_of_a_conversation_may_bring_its_own_template() -> None:
    turns = tuple(Message(role, "hm") for role in ("user", "assistant", "user"))
    counter = Counting(lambda _: 12)
    assert choose([Prompt("chat", turns)], counter, count=1, target=20).distinct == 1


def test_equal_content_gives_an_equal_checksum_and_other_order_another() -> None:
    source = made_source(40)
    renamed = [user_prompt(f"other:{i}", p.text) for i, p in enumerate(source)]
    first = choose(source, Counting(words))
    assert first.sha256 == choose(renamed, Counting(words)).sha256
    assert first.sha256 != choose(source, Counting(words), seed=2).sha256


@pytest.mark.parametrize(("target", "low", "high"), [(1000, 500, 2000), (None, 50, 500)])
def test_where_no_prompt_fits_the_error_names_range_lengths_and_remedy(
    target: int | None, low: int, high: int
) -> None:
    found = error(made_source(10), Counting(words), target=target)
    assert found.startswith("set: ")
    assert re.findall(r"\d+", found) == ["10", str(low), str(high), "1", "36"]
    assert {"server", "prompt_fit", "packed", "prefill_tokens"} <= set(re.findall(r"\w+", found))


def test_a_file_of_ones_own_is_sent_whole_whatever_its_lengths() -> None:
    lengths = (1, 7, 49, 50, 500, 501, 20_000)
    source = [user_prompt(f"file:{n}", f"No{n} " + "word " * (n - 1)) for n in lengths]
    found = choose(source, Counting(words), 7, target=None, name="file:mine")
    assert sorted(p.tokens or 0 for p in found.prompts) == list(lengths)
    assert (found.left_out, found.notes) == ({"empty": 2}, ())
    usual = choose(source, Counting(words), 2, target=None)
    assert {p.tokens for p in usual.prompts} == {50, 500}, (
        "another set's lengths are the usual ones"
    )


def test_a_length_that_is_asked_for_is_told_with_what_it_leaves_out() -> None:
    source = made_source(40)  # 1 to 40 words, each once
    found = choose(source, Counting(words), 99, target=20, name="file:mine")
    assert found.distinct == 31
    assert found.left_out == {"empty": 2, "shorter than 10 tokens": 9}
    assert found.notes[-1].startswith("file:mine: ")
    assert figures_in(found)[-1] == [40, 9, 10]
    assert choose(source, Counting(words), 99, target=10, name="file:mine").left_out == {
        "empty": 2,
        "shorter than 5 tokens": 4,
        "longer than 20 tokens": 20,
    }
    (reused,) = choose(source, Counting(words), 99, target=20).notes
    assert "looked at" not in reused, "a set of the hub has its range in its description"


def test_what_the_server_refuses_is_left_out_of_a_file_and_counted() -> None:
    counter = Counting(lambda text: None if "No3 " in text else words(text))
    found = choose(made_source(10), counter, 10, target=None, name="file:mine")
    assert found.distinct == 9
    assert list(found.left_out.values()) == [2, 1]
    assert [10, 1] in figures_in(found)
    with pytest.raises(PromptError, match="MAX_MODEL_LEN") as raised:
        choose(made_source(10), Counting(lambda _: None), target=None, name="file:mine")
    assert len(str(raised.value)) < 300


# packed


@settings(max_examples=60, deadline=None)
@given(fits, st.integers(20, 1500))
def test_packed_prompts_meet_the_target_within_2_percent(
    given_: dict[str, Any], target: int
) -> None:
    tokens_of = COUNTERS[given_["counter"]]
    source = made_source(given_["number"])
    count = min(given_["count"], 25)
    found = choose(source, Counting(tokens_of), count, target, fit="packed", seed=given_["seed"])
    for prompt in found.prompts:
        assert prompt.tokens == tokens_of(prompt.text)
        assert abs(prompt.tokens - target) <= max(1, 0.02 * target)
    starts = [prompt.text.split()[0] for prompt in found.prompts]
    assert len(set(starts)) == found.distinct == count


def test_packed_prompts_are_real_prompts_joined_by_blank_lines() -> None:
    source = made_source(60)
    (prompt,) = choose(source, Counting(words), 1, 300, fit="packed").prompts
    *whole, last = prompt.text.split("\n\n")
    known = {p.text for p in source}
    assert set(whole) <= known
    assert len(set(whole)) == len(whole)
    assert any(text.startswith(last) for text in known)
    assert prompt.id == next(p.id for p in source if p.text == whole[0]) + f"+{len(whole)}"


def test_packing_takes_few_counts() -> None:
    counter = Counting(uneven)
    choose(made_source(300), counter, 100, 3072, fit="packed")
    assert len(counter.asked) / 100 < 6


def test_a_set_of_one_short_prompt_can_be_packed_and_says_that_it_repeats() -> None:
    found = choose([user_prompt("a", "only this")], Counting(words), 3, 200, fit="packed")
    assert (found.distinct, found.max_uses) == (1, 3)
    assert figures_in(found) == [[1, 3, 3], []]
    assert "repeat inside" in found.notes[1]


def test_a_text_without_spaces_is_cut_at_a_character() -> None:
    source = [user_prompt(f"zh:{i}", chr(0x4E00 + i) + "数据科学入门" * 50) for i in range(20)]
    for prompt in choose(source, Counting(characters), 20, 100, fit="packed").prompts:
        assert prompt.tokens is not None
        assert abs(prompt.tokens - 100) <= 2


def test_prompts_that_end_up_equal_are_packed_once() -> None:
    source = [user_prompt(i, "a beginning that both have, then " + i) for i in "ab"]
    assert choose(source, Counting(words), 2, 4, fit="packed").distinct == 1


def test_packed_without_a_target_names_the_key() -> None:
    assert "prefill_tokens" in error(made_source(5), Counting(words), target=None, fit="packed")


def test_a_target_below_the_templates_own_length_is_refused() -> None:
    found = error(made_source(5), Counting(uneven), target=7, fit="packed")
    assert found.startswith("prefill_tokens: 7 ")
    assert "take 7" in found


@pytest.mark.parametrize(
    "tokens_of",
    [
        lambda text: words(text) if words(text) < 50 else None,  # a server of short context
        lambda _: 5,  # a server that always says the same
        lambda text: 300 * (words(text) // 7),  # no cut comes near
        lambda _: None,
    ],
)
def test_a_target_that_cannot_be_met_ends_in_an_error(
    tokens_of: Callable[[str], int | None],
) -> None:
    found = error(made_source(30), Counting(tokens_of), target=500, fit="packed")
    assert "500 tokens" in found
    assert "prefill_tokens" in found
