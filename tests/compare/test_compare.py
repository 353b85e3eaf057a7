"""What two sides' runs come to: figures, words, reasons, notes, and an exit code."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.charts.effects import effects_chart
from vllm_bench.compare.compare import How, compare
from vllm_bench.compare.comparison import Comparison, Row
from vllm_bench.compare.measures import MEASURES
from vllm_bench.compare.pairs import Side
from vllm_bench.compare.words import answer
from vllm_bench.errors import UsageError
from vllm_bench.figures.thoughts.thinking import ThinkingFigures
from vllm_bench.summary.summary import RunSummary
from vllm_bench.tables.compared_document import to_json
from vllm_bench.verdict.finding import Severity

from tests.compare.made import INVALID, made, side, without
from tests.compare.test_pairs import visits

WOBBLE = (0.998, 1.003, 1.001, 0.997, 1.002)


def rows(found: Comparison, level: int = 0) -> dict[str, Row]:
    return {row.measure.name: row for row in found.levels[level].rows}


def changed(like: Side, change: Any) -> Side:
    return Side(like.name, tuple(change(run) for run in like.runs))


@pytest.mark.parametrize(
    ("times", "word", "code"),
    [(1.1, "slower", 3), (0.9, "faster", 0), (1.0, "equivalent", 0)],
)
def test_a_word_on_each_time(times: float, word: str, code: int) -> None:
    found = compare(side("a", 1, 1, 1, 1, 1), side("b", *(times * w for w in WOBBLE), start_s=60))
    for name in ("ttft_p50_ms", "tpot_p95_ms", "latency_p99_ms"):
        assert rows(found)[name].word == word
    assert rows(found)["success_rate"].word == "equivalent"
    assert (found.exit_code, found.refusals) == (code, ())


def test_more_tokens_are_faster_and_fewer_slower() -> None:
    a = side("a", 1, 1, 1, 1)
    for speed, word in ((1.06, "faster"), (0.94, "slower")):
        b = Side(
            "b",
            tuple(
                made(r.name, speed=speed * w, plan=k, repeat=k)
                for k, (r, w) in enumerate(zip(a.runs, WOBBLE, strict=False), 1)
            ),
        )
        b = changed(b, lambda run: dataclasses.replace(run, name=f"b-{run.name}"))
        found = rows(compare(a, b))["output_tokens_per_s"]
        assert found.word == word
        assert found.effect is not None
        assert found.effect.change == pytest.approx(speed - 1, abs=0.01)


def test_a_and_b_are_geometric_means_and_the_effect_their_ratio() -> None:
    found = rows(compare(side("a", 1, 2, 1, 2), side("b", 2, 4, 4, 2)))["ttft_p50_ms"]
    assert found.a == pytest.approx(100 * math.sqrt(2))
    assert found.effect is not None
    assert found.b == pytest.approx(found.a * found.effect.ratio)
    assert found.effect.ratio == pytest.approx(2.0)


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_under_four_pairs_there_are_figures_and_no_word(pairs: int) -> None:
    found = compare(side("a", *[1] * pairs), side("b", *WOBBLE[:pairs]))
    assert {row.word for row in rows(found).values()} == {None}
    effect = rows(found)["ttft_p50_ms"].effect
    assert effect is not None
    assert (effect.interval is None) == (pairs == 1)
    assert found.exit_code == 4
    assert len(found.refusals) == 1


def test_pairs_that_are_thrown_away_are_counted_and_leave_too_few() -> None:
    a, b = side("a", 1, 1, 1, 1, 1), side("b", *WOBBLE)
    bad = made("b1", doubts=INVALID)
    found = compare(a, Side("b", (bad, *b.runs[1:])))
    assert len(found.levels[0].pairs) == 4
    assert len(found.levels[0].dropped) == 1
    assert found.exit_code == 0
    worse = made("b2", plan=2, repeat=2, doubts=INVALID)
    found = compare(a, Side("b", (bad, worse, *b.runs[2:])))
    assert (len(found.levels[0].dropped), found.exit_code) == (2, 4)


@pytest.mark.parametrize(("times", "code"), [(1.0, 4), (1.2, 3)])
def test_a_level_without_a_word_is_no_pass(times: float, code: int) -> None:
    a, b = side("a", 1, 1, 1, 1), side("b", *(times * w for w in WOBBLE[:4]))
    assert compare(a, b).exit_code == (0 if code == 4 else 3)
    a, b = (Side(s.name, (*s.runs, made(f"{s.name}-open", rate=5.0))) for s in (a, b))
    found = compare(a, b)
    assert sorted(bool(level.words) for level in found.levels) == [False, True]
    assert (found.exit_code, found.refusals, len(found.silent)) == (code, (), 1)


# ---- figures that are missing, or 0 ----


def test_a_figure_that_one_run_lacks_has_a_reason_and_the_others_have_words() -> None:
    b = side("b", *WOBBLE)
    b = Side("b", (without(b.runs[0], "ttft_ms", 99.0), *b.runs[1:]))
    found = rows(compare(side("a", 1, 1, 1, 1, 1), b))
    lacking = found["ttft_p99_ms"]
    assert (lacking.word, lacking.effect, lacking.b) == (None, None, None)
    assert "b1" in (lacking.why or "")
    assert found["ttft_p95_ms"].word == "equivalent"


@dataclasses.dataclass(frozen=True)
class Good:
    """Objectives, as far as a comparison asks for them."""

    goodput_per_s: float | None
    on_requests: tuple[Any, ...] = ()


def good(like: Side, *values: float | None, asked: str = "slo") -> Side:
    @dataclasses.dataclass(frozen=True)
    class Outcome:
        objective: str = asked

    runs = [
        dataclasses.replace(run, attainment=Good(v, (Outcome(),)))  # type: ignore[arg-type]
        for run, v in zip(like.runs, values, strict=True)
    ]
    return Side(like.name, tuple(runs))


def thinking(like: Side, unanswered: int, times: float = 1.0) -> Side:
    """The side of a model that thinks, and left so many of 100 replies without an answer."""
    figures = ThinkingFigures(
        of=100,
        replies=100,
        unanswered=unanswered,
        unanswered_share=unanswered / 100,
        token_share=0.5,
        unknown=0,
        in_content=0,
        hidden=0,
        timed=100 - unanswered,
    )

    def thinks(run: RunSummary) -> RunSummary:
        ttfa = dataclasses.replace(
            run.distributions["ttft_ms"], percentiles={50.0: 500 * times, 95.0: 900 * times}
        )
        return dataclasses.replace(
            run, thinking=figures, distributions={**run.distributions, "ttfa_ms": ttfa}
        )

    return changed(like, thinks)


@pytest.mark.parametrize(("left", "word"), [((20, 20), "faster"), ((20, 40), None), ((0, 2), None)])
def test_the_answers_of_who_left_more_unanswered_are_not_called_faster(
    left: tuple[int, int], word: str | None
) -> None:
    a, b = thinking(side("a", 1, 1, 1, 1, 1), left[0]), side("b", *WOBBLE, start_s=60)
    found = rows(compare(a, thinking(b, left[1], 0.8)))
    for name in ("ttfa_p50_ms", "ttfa_p95_ms"):
        assert found[name].word == word
        assert found[name].a
        assert (found[name].why is None) == (word is not None)
    assert found["ttft_p50_ms"].word == "equivalent"


def test_goodput_has_a_row_only_where_it_is_known() -> None:
    a, b = side("a", 1, 1, 1, 1), side("b", 1, 1, 1, 1)
    assert "goodput_per_s" not in rows(compare(a, b))
    found = rows(compare(good(a, 5, 5, 5, 5), good(b, 4, 4.02, 4.01, 4)))["goodput_per_s"]
    assert found.word == "slower"
    one = rows(compare(a, good(b, 4, 4, 4, 4)))["goodput_per_s"]
    assert (one.word, one.effect) == (None, None)
    assert "a1" in (one.why or "")


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        ((5, 5, 5, 5), (0, 0, 0, 4), "B"),
        ((0, 1, 1, 1), (1, 1, 1, 1), "A"),
        ((0,) * 4, (0,) * 4, "A and B"),
    ],
)
def test_a_goodput_of_nothing_has_no_ratio(
    a: tuple[float, ...], b: tuple[float, ...], where: str
) -> None:
    sides = good(side("a", 1, 1, 1, 1), *a), good(side("b", *WOBBLE[:4]), *b)
    found = compare(*sides)
    row = rows(found)["goodput_per_s"]
    assert (row.effect, row.word) == (None, None)
    assert f"0 in {where}:" in (row.why or "")
    assert 0 in {row.a, row.b}
    assert rows(found)["ttft_p50_ms"].word == "equivalent"


@pytest.mark.parametrize(("five", "code"), [("a", 3), ("b", 0)])
def test_a_goodput_that_is_gone_in_each_pair_is_slower(five: str, code: int) -> None:
    of = {"a": 0, "b": 0, five: 5}
    sides = good(side("a", 1, 1, 1, 1), *[of["a"]] * 4), good(side("b", 1, 1, 1, 1), *[of["b"]] * 4)
    found = compare(*sides)
    row = rows(found)["goodput_per_s"]
    assert (row.word, found.exit_code) == ({3: "slower", 0: "faster"}[code], code)
    assert answer(found).startswith(f"B (b) is {row.word} than A (a): goodput")
    json.loads(to_json(found))
    assert effects_chart(found) is not None
    few = compare(*(Side(one.name, one.runs[:3]) for one in sides))
    assert rows(few)["goodput_per_s"].word is None


def test_the_answer_does_not_pass_over_a_measure_without_a_word() -> None:
    a = good(side("a", 1, 1, 1, 1), 5, 5, 5, 5)
    found = compare(a, good(side("b", 1, 1, 1, 1), 5, 0, 0, 5))
    assert "without a word" in answer(found)
    assert "without a word" not in answer(compare(a, good(side("b", 1, 1, 1, 1), 5, 5, 5, 5)))


def test_goodput_under_other_objectives_is_not_compared() -> None:
    a, b = good(side("a", 1, 1, 1, 1), 5, 5, 5, 5), side("b", 1, 1, 1, 1)
    found = rows(compare(a, good(b, 4, 4, 4, 4, asked="other")))["goodput_per_s"]
    assert (found.word, found.effect) == (None, None)
    assert "slo" in (found.why or "")


def energetic(run: RunSummary, joules: float) -> RunSummary:
    return dataclasses.replace(
        run, energy=dataclasses.replace(run.energy, per_output_token_j=joules)
    )


def test_energy_is_of_the_gpus_and_drops_out_where_these_are_doubted() -> None:
    a = changed(side("a", 1, 1, 1, 1), lambda run: energetic(run, 2.0))
    b = changed(side("b", *WOBBLE[:4]), lambda run: energetic(run, 2.2))
    assert rows(compare(a, b))["energy_per_output_token_j"].word == "slower"
    assert compare(a, b).exit_code == 0  # no headline
    doubted = made("b1", doubts=(("clock_drift", Severity.INVALID, "GPUs"),))
    found = rows(compare(a, Side("b", (energetic(doubted, 2.2), *b.runs[1:]))))
    row = found["energy_per_output_token_j"]
    assert (row.word, row.effect) == (None, None)
    assert "clock_drift" in (row.why or "")
    assert found["ttft_p50_ms"].word == "equivalent"


def test_an_open_loop_is_judged_from_the_schedule() -> None:
    def twice(run: RunSummary) -> RunSummary:
        late = run.distributions["ttft_from_schedule_ms"]
        later = {q: 2 * v for q, v in late.percentiles.items()}
        changed = dataclasses.replace(late, percentiles=later)
        return dataclasses.replace(
            run, distributions={**run.distributions, "ttft_from_schedule_ms": changed}
        )

    a, b = (side(name, 1, 1, 1, 1, rate=5.0) for name in "ab")
    row = rows(compare(a, changed(b, twice)))["ttft_p50_ms"]
    assert row.effect is not None
    assert row.effect.ratio == pytest.approx(2)
    assert "from schedule" in row.measure.title


# ---- margins, hardware, notes ----


def test_a_margin_moves_the_word() -> None:
    a, b = side("a", 1, 1, 1, 1, 1), side("b", *(1.04 * w for w in WOBBLE))
    assert rows(compare(a, b))["ttft_p95_ms"].word == "slower"
    wide = rows(compare(a, b, How(margins={"ttft_p95_ms": 0.2})))["ttft_p95_ms"]
    assert (wide.word, wide.measure.margin) == ("equivalent", 0.2)


@pytest.mark.parametrize(
    "margins", [{"ttft": 0.1}, {"ttft_p50_ms": 0}, {"ttft_p50_ms": 5}, {"ttft_p50_ms": math.nan}]
)
def test_a_margin_that_cannot_be_is_told(margins: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="margin of ttft"):
        compare(side("a", 1), side("b", 1), How(margins=margins))


def test_other_hardware_has_no_word_unless_it_is_asked_for() -> None:
    def gpu(name: str) -> dict[str, Any]:
        return {"observed": {"gpu": {"gpus": [{"index": 0, "name": name}]}}}

    a, b = side("a", 1, 1, 1, 1, **gpu("H100")), side("b", *WOBBLE[:4], **gpu("H200"))
    found = compare(a, b)
    assert (found.exit_code, len(found.refusals)) == (4, 1)
    assert "H100" in found.refusals[0]
    assert compare(a, b, How(same_hardware=False)).exit_code == 0
    assert compare(a, side("b", *WOBBLE[:4], **gpu("H100"))).exit_code == 0
    assert compare(a, side("b", *WOBBLE[:4])).exit_code == 0  # not known


def test_a_sceptic_is_told_of_turns_and_starts() -> None:
    blocks = compare(side("a", 1, 1, 1, 1), side("b", *WOBBLE[:4], start_s=9000))
    assert any("before" in note for note in blocks.notes)
    assert any("these server processes" in note for note in blocks.notes)
    same_turns = compare(side("a", 1, 1, 1, 1), side("b", *WOBBLE[:4], start_s=60))
    assert any("first in every pair" in note for note in same_turns.notes)
    assert compare(visits("A", "ABAB"), visits("B", "ABAB")).notes == ()


def test_suspect_runs_and_runs_left_over_are_told() -> None:
    doubts = (("stalls", Severity.SUSPECT, "all"),)
    a, b = side("a", 1, 1, 1, 1, 1), side("b", *WOBBLE[:4], doubts=doubts)
    notes = " ".join(compare(a, b).notes)
    assert "4 runs of 8 SUSPECT: stalls" in notes
    assert "1 run without a partner" in notes


def test_no_level_in_common() -> None:
    found = compare(side("a", 1), side("b", 1, rate=5.0))
    assert (found.levels, found.exit_code, len(found.refusals)) == ((), 4, 1)


# ---- whatever the figures are ----


def numbers(found: Comparison) -> Iterator[float]:
    for row in rows(found).values():
        yield from (v for v in (row.a, row.b, row.p, row.smallest, row.more_pairs) if v is not None)
        if row.effect:
            yield from (row.effect.ratio, row.effect.spread or 0.0)
            if row.effect.interval:
                yield from (row.effect.interval.low, row.effect.interval.high)


TIME = st.floats(1e-9, 1e9)


@given(st.lists(st.tuples(TIME, TIME), min_size=1, max_size=7))
def test_every_number_is_finite_and_swapped_sides_say_the_reverse(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = side("a", *(x for x, _ in pairs)), side("b", *(y for _, y in pairs))
    one, other = compare(a, b), compare(b, a)
    json.dumps(list(numbers(one)), allow_nan=False)
    reverse = {"faster": "slower", "slower": "faster"}
    for name, row in rows(one).items():
        assert row.word == reverse.get(str(rows(other)[name].word), rows(other)[name].word)


def test_the_measures_are_named_once_and_all_but_energy_are_headlines() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert [m.name for m in MEASURES if not m.headline] == ["energy_per_output_token_j"]
