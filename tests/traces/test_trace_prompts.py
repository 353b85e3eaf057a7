"""Prompts of a trace's lengths: exact, distinct, the same everywhere, equal where blocks are."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.prompts.count import EstimateCounter
from vllm_bench.prompts.pack import Goal, run_together
from vllm_bench.prompts.prompt import Prompt, PromptError, PromptSet, PromptSource, user_prompt
from vllm_bench.prompts.source import load_source
from vllm_bench.traces.blocks import AFTER, BEFORE, LEAD, Blocks
from vllm_bench.traces.prompts import SAMPLE, Writer, trace_prompts
from vllm_bench.traces.rows import BLOCK_TOKENS
from vllm_bench.traces.trace import Trace, TraceRequest, read_trace

from tests.prompts.test_fit import COUNTERS, Counting, made_source, uneven, words
from tests.support.reading import numbers

ROOT = Path(__file__).resolve().parents[2]
SOURCE = PromptSource("set", tuple(made_source(200)))


def azure(*lengths: int | None) -> Trace:
    return Trace("azure", tuple(TraceRequest(i / 2, n, 5) for i, n in enumerate(lengths)))


def mooncake(*requests: tuple[int, tuple[int, ...]]) -> Trace:
    return Trace("mooncake", tuple(TraceRequest(0.0, n, 5, ids) for n, ids in requests))


def made(
    trace: Trace, counter: Counting | None = None, source: PromptSource = SOURCE, seed: int = 1
) -> PromptSet:
    return trace_prompts(trace, source, counter or Counting(uneven), seed)


def texts(found: PromptSet) -> list[str]:
    return [prompt.text for prompt in found.prompts]


def common(a: str, b: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


# Lengths


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(20, 1500), min_size=1, max_size=40),
    st.sampled_from(sorted(COUNTERS)),
    st.integers(0, 2**63 - 1),
    st.sampled_from([3, 200]),
)
def test_each_prompt_has_its_requests_tokens(
    lengths: list[int], counter: str, seed: int, prompts: int
) -> None:
    source = PromptSource("set", tuple(made_source(prompts)))
    found = made(azure(*lengths), Counting(COUNTERS[counter]), source, seed)
    assert len(found.prompts) == len(lengths)
    for prompt, wanted in zip(found.prompts, lengths, strict=True):
        assert prompt.tokens == COUNTERS[counter](prompt.text)
        assert abs(prompt.tokens - wanted) <= max(1, wanted * 0.02)


def test_prompts_too_short_for_the_template_get_the_smallest_that_there_is() -> None:
    # `uneven` has a template of 7 tokens, and one for the shortest word.
    found = made(azure(300, 1, 7, 8, 40))
    assert [p.tokens for p in found.prompts[1:4]] == pytest.approx([8, 8, 8], abs=1)
    assert all(p.text for p in found.prompts)
    assert [numbers(note) for note in found.notes] == [[2, 8, 7]]  # prompts, tokens, template


def test_requests_of_unknown_length_get_the_others_median() -> None:
    found = made(azure(100, None, 400, 120, None))
    for index in (1, 4):
        assert found.prompts[index].tokens == pytest.approx(120, rel=0.02)
    assert [numbers(note) for note in found.notes] == [[2, 120]]


# Distinct, and the same everywhere


def test_prompts_begin_with_prompts_of_their_own() -> None:
    found = made(azure(*[150] * len(SOURCE.prompts)))
    first_words = Counter(text.split()[0] for text in texts(found))
    assert max(first_words.values()) == 1
    assert (found.distinct, found.max_uses) == (200, 1)


def test_more_requests_than_prompts_have_no_long_beginning_in_common() -> None:
    source = PromptSource("set", tuple(made_source(20)))
    found = texts(made(azure(*[400] * 300), Counting(words), source))
    assert len(set(found)) == 300
    shared = [common(a, b) / len(a) for a, b in itertools.pairwise(sorted(found))]
    # Even next neighbours part within the first prompt, or seldom the second.
    assert max(shared) < 0.25
    assert sum(shared) / len(shared) < 0.05


def test_ids_name_the_first_prompt_and_how_many_more() -> None:
    by_id = {prompt.id: prompt.text for prompt in SOURCE.prompts}
    for prompt in made(azure(*[30, 400] * 20)).prompts:
        first, _, more = prompt.id.partition("+")
        assert prompt.text.startswith(by_id[first][: len(prompt.text)])
        assert prompt.text.count("\n\n") == int(more or 0)


def test_a_longer_trace_begins_with_the_prompts_of_a_shorter_one() -> None:
    lengths = [40 + 7 * i for i in range(60)]
    longer = made(azure(*lengths)).prompts
    assert longer[:25] == made(azure(*lengths[:25])).prompts


def test_seeds_give_other_prompts() -> None:
    first, second = (texts(made(azure(*[100] * 10), seed=seed)) for seed in (1, 2))
    assert not set(first) & set(second)


@pytest.mark.process
def test_another_process_makes_the_same() -> None:
    code = (
        "from tests.traces.test_trace_prompts import azure, mooncake, made\n"
        "print(made(azure(30, 500, 90)).sha256, made(mooncake((1200, (4, 5, 6)))).sha256)\n"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "bench")))
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    here = [made(azure(30, 500, 90)).sha256, made(mooncake((1200, (4, 5, 6)))).sha256]
    assert printed == {" ".join(here) + "\n"}


# Blocks


def test_equal_blocks_are_equal_text() -> None:
    whole = mooncake(
        (4 * BLOCK_TOKENS, (1, 2, 3, 4)),
        (4 * BLOCK_TOKENS, (1, 2, 3, 9)),  # three blocks in common
        (3 * BLOCK_TOKENS + 100, (1, 2, 3, 7)),
        (2 * BLOCK_TOKENS, (1, 8)),  # one
        (2 * BLOCK_TOKENS, (5, 2)),  # none: a prefix differs from its first block on
        (4 * BLOCK_TOKENS, (1, 2, 3, 4)),  # all
    )
    first, second, third, fourth, fifth, sixth = texts(made(whole))
    block = len(first) / 4
    assert first == sixth
    for other, blocks in ((second, 3), (third, 3), (fourth, 1)):
        assert common(first, other) == pytest.approx(blocks * block, rel=0.1)
    assert common(first, fifth) < block / 4


def blocks_of(trace: Trace, tokens_of: Callable[[str], int], overhead: int) -> Blocks:
    counter = Counting(tokens_of)
    writer = Writer(SOURCE.prompts, 1)
    found = Blocks(writer.block, counter, overhead, 5.0)
    found.cut_shared(trace.requests)
    return found


@pytest.mark.parametrize("counter", ["words", "uneven"])
def test_a_shared_block_and_the_space_before_it_have_512_tokens(counter: str) -> None:
    tokens_of, ids = COUNTERS[counter], tuple(range(60))
    overhead = tokens_of("x") - 1
    found = blocks_of(mooncake(*[(61 * BLOCK_TOKENS, (*ids, 60))] * 2), tokens_of, overhead)
    for n in ids[1:]:
        text = found.text(n, False)
        assert tokens_of(LEAD + BEFORE + text) - tokens_of(LEAD) == pytest.approx(512, abs=1)
    # A prompt's first block has the template's tokens in it.
    assert tokens_of(found.text(0, True)) == pytest.approx(BLOCK_TOKENS + AFTER, abs=1)


def test_only_blocks_that_several_prompts_begin_with_are_counted() -> None:
    own = [(40 * BLOCK_TOKENS, tuple(range(1000 * n, 1000 * n + 40))) for n in range(3)]
    counter = Counting(uneven)
    writer = Writer(SOURCE.prompts, 1)
    found = Blocks(writer.block, counter, 7, 5.0)
    found.cut_shared(mooncake(*own).requests)
    assert counter.asked == []
    found.cut_shared(mooncake(*own, (3 * BLOCK_TOKENS, (0, 1, 2))).requests)
    # Two blocks; the third is the last of a prompt, which is cut to the prompt's length.
    assert len({p.text.split()[1] for p in counter.asked}) == 2
    assert len(counter.asked) < 2 * 8


def test_thousands_of_blocks_are_few_counts_each_of_one_block() -> None:
    requests = [(33 * BLOCK_TOKENS, (*range(0, 32), 10_000 + n)) for n in range(2)]
    requests += [(33 * BLOCK_TOKENS, (*range(50, 82), 20_000 + n)) for n in range(2)]
    counter = Counting(words)
    found = Blocks(Writer(SOURCE.prompts, 1).block, counter, 0, 6.0)
    found.cut_shared(mooncake(*requests).requests)
    assert len(counter.asked) <= 64 * 6
    assert max(words(p.text) for p in counter.asked) < 3 * BLOCK_TOKENS


@pytest.mark.parametrize("tokens_of", [lambda _: 1, lambda _: None, lambda t: 9000 + len(t)])
def test_where_no_cut_fits_a_block_has_about_its_length(
    tokens_of: Callable[[str], int | None],
) -> None:
    found = Blocks(Writer(SOURCE.prompts, 1).block, Counting(tokens_of), 0, 5.0)
    found.cut_shared(mooncake(*[(3 * BLOCK_TOKENS, (1, 2, 3))] * 2).requests)
    assert len(found.text(2, False)) == pytest.approx(BLOCK_TOKENS * 5, rel=0.1)


def test_a_block_is_the_same_text_last_and_within_in_any_trace() -> None:
    (within,) = texts(made(mooncake((1500, (1, 2, 3)))))
    (last,) = texts(made(mooncake((1000, (1, 2)))))
    assert within.startswith(last)
    shared, longer, _ = texts(made(mooncake((1000, (1, 2)), (1500, (1, 2, 3)), (1500, (1, 2, 4)))))
    # A shared block is cut by count, one of a single prompt by its usual length.
    assert common(longer, within) > 0.9 * len(within) / 3
    assert longer.startswith(shared)


@pytest.mark.parametrize("off", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("tokens", [18_900, 18_440])
def test_many_shared_blocks_leave_room_for_the_rest(off: float, tokens: int) -> None:
    # Blocks may have longer words than the set, so that they seem to be the whole prompt.
    counter, ids = Counting(uneven), tuple(range(37))
    blocks = Blocks(Writer(SOURCE.prompts, 1).block, counter, 7, 3.1 * off)
    blocks.cut_shared(mooncake(*[(37 * BLOCK_TOKENS, ids)] * 2).requests)
    (found,) = run_together([blocks.search(ids, Goal(tokens, 7), 0)], counter)
    assert found is not None
    assert found.tokens == pytest.approx(tokens, rel=0.02)
    shared = " ".join(blocks.text(n, n == 0) for n in ids[:-1])
    assert found.text.startswith(shared)
    assert len(found.text) > len(shared)


class Paged:
    """A prefix cache of whole pages that never forgets; a word is a token."""

    def __init__(self, template: int, page: int = 16) -> None:
        self._template, self._page = template, page
        self._known: set[tuple[str, ...]] = set()

    def found(self, text: str) -> int:
        """Return how many tokens of a prompt are there, and keep all of them."""
        tokens = ("template",) * self._template + tuple(text.split())
        ends = range(self._page, len(tokens) + 1, self._page)
        known = sum(1 for _ in itertools.takewhile(lambda e: tokens[:e] in self._known, ends))
        self._known.update(tokens[:end] for end in ends)
        return known * self._page


trees = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple), min_size=2, max_size=12
)


@settings(max_examples=30, deadline=None)
@given(trees, st.integers(1, 512), st.integers(0, 30), st.integers(0, AFTER), st.integers(0, 99))
def test_a_cache_finds_the_traces_own_share(
    paths: list[tuple[int, ...]], last: int, before: int, after: int, seed: int
) -> None:
    # As Mooncake hashes: an id says what came before it, too. The last block is each prompt's own.
    trace = mooncake(
        *(
            (
                BLOCK_TOKENS * len(path) + last,
                (*(hash(path[: n + 1]) & 0xFFFFFF for n in range(len(path))), -1 - number),
            )
            for number, path in enumerate(paths)
        )
    )
    counter = Counting(lambda text: before + words(text) + after)
    found = made(trace, counter, seed=seed)
    cache = Paged(before)
    hits = sum(cache.found(text) for text in texts(found))
    share = trace.shared_share
    assert share is not None
    wanted = share * sum(r.prompt_tokens or 0 for r in trace.requests)
    # A block may be a token off, and what is found of a prompt is whole pages.
    slack = sum(len(path) + 16 for path in paths)
    assert abs(hits - wanted) <= slack  # one block lost would be more


def test_equal_requests_are_searched_once() -> None:
    counter = Counting(uneven)
    request = (4 * BLOCK_TOKENS, (1, 2, 3, 4))
    found = made(mooncake(*[request] * 50), counter)
    assert (found.distinct, found.max_uses) == (1, 50)
    assert len(counter.asked) < SAMPLE + 2 + 10 + 3 * 6  # three shared blocks


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(12, 4000), min_size=1, max_size=8),
    st.sampled_from(sorted(COUNTERS)),
    st.integers(0, 2**63 - 1),
)
def test_prompts_of_blocks_have_their_requests_tokens(
    lengths: list[int], counter: str, seed: int
) -> None:
    # Blocks of a tree, as in a trace of conversations: block k follows block k - 1.
    trace = mooncake(*((n, tuple(range(-(-n // BLOCK_TOKENS)))) for n in lengths))
    found = made(trace, Counting(COUNTERS[counter]), seed=seed)
    for prompt, wanted in zip(found.prompts, lengths, strict=True):
        assert prompt.tokens is not None
        assert abs(prompt.tokens - wanted) <= max(1, wanted * 0.02)
    longest = max(texts(found), key=len)
    # They part where a shorter one's last block goes on beyond the 512 tokens of the others'.
    assert all(common(text, longest) > 0.85 * len(text) for text in texts(found))


# Cost


def test_about_two_counts_a_request_are_enough(shared: Path) -> None:
    trace = read_trace(shared / "data" / "azure" / "AzureLLMInferenceTrace_conv.csv", limit_s=120)
    source = load_source(
        f"file:{shared / 'data' / 'oasst' / 'prompt_lottery_en_250_text.jsonl'}",
        cache_dir=shared,
    )
    counter = Counting(uneven)
    found = made(trace, counter, source)
    assert len(found.prompts) == 456
    assert len(counter.asked) <= 2.2 * 456
    for prompt, request in zip(found.prompts, trace.requests, strict=True):
        assert request.prompt_tokens is not None
        wanted = max(8, request.prompt_tokens)
        assert abs((prompt.tokens or 0) - wanted) <= max(1, wanted * 0.02)


def test_the_set_says_who_counted_and_what_to_know_of_it() -> None:
    source = PromptSource("set", SOURCE.prompts, ("set: rows left out: 3 empty",))
    found = trace_prompts(azure(100, 5000), source, EstimateCounter(), 1)
    assert (found.dataset, found.counted_by, found.source_count) == ("set", "estimate", 200)
    assert found.notes == (*source.notes, *EstimateCounter().notes)


# What can't be had


def refusal(trace: Trace, source: PromptSource, counter: Counting) -> str:
    with pytest.raises(PromptError) as raised:
        made(trace, counter, source)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_prompt_that_the_server_refuses_is_told_at_once() -> None:
    counter = Counting(lambda text: None if words(text) > 900 else words(text))
    said = refusal(azure(*[100] * 500, 4000), SOURCE, counter)
    assert numbers(said) == [4000]
    assert "MAX_MODEL_LEN" in said
    assert len(counter.asked) <= SAMPLE + 2


def test_a_length_just_over_the_servers_is_told_too() -> None:
    counter = Counting(lambda text: None if words(text) > 950 else words(text))
    said = refusal(azure(100, 1000), SOURCE, counter)
    assert numbers(said)[:3] == [1, 1000, 1000]  # prompts, of how many tokens


@pytest.mark.parametrize(
    ("trace", "source", "text"),
    [
        (azure(100), PromptSource("set", ()), "set: no prompts"),
        (azure(), SOURCE, "azure: the trace has no requests"),
        (azure(None, None), SOURCE, "azure: no request of the trace has a number of prompt tokens"),
    ],
    ids=["no prompts", "no requests", "no lengths"],
)
def test_nothing_comes_of_nothing(trace: Trace, source: PromptSource, text: str) -> None:
    assert refusal(trace, source, Counting(words)) == text


def test_a_counter_that_counts_nothing_ends_too() -> None:
    assert numbers(refusal(azure(100), SOURCE, Counting(lambda _: 1)))[:3] == [1, 100, 100]


def test_prompts_of_several_messages_are_used_as_text() -> None:
    several: Sequence[Prompt] = [
        Prompt(p.id, (*p.messages, *user_prompt("", "and more").messages)) for p in SOURCE.prompts
    ]
    found = made(azure(200), source=PromptSource("set", tuple(several)))
    assert "and more" in found.prompts[0].text
    assert len(found.prompts[0].messages) == 1
