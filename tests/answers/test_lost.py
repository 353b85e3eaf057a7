"""Lost answers are found, and sound servers aren't accused: by simulation, with seeds."""

from __future__ import annotations

import dataclasses

import pytest
from vllm_bench.answers.lost import INVALID, against_words, findings, judged, side_words
from vllm_bench.answers.side import Against, AnswersSide, mcnemar
from vllm_bench.verdict.finding import Severity

from tools import answers_truth
from tools.answers_truth import share_accused, share_found


def against(lost: int, won: int, pairs: int = 400, texts: int | None = None) -> Against:
    return Against(
        alone_match=0.9,
        pairs=pairs,
        left_out=0,
        texts_changed=lost + won if texts is None else texts,
        changed=lost + won,
        lost=lost,
        won=won,
        p=mcnemar(lost, won),
        p_holm=None,
        no_verdict=None,
    )


def side(one: Against | None, *, cut: int = 0, unread: int = 0) -> AnswersSide:
    return AnswersSide(
        asked="load" if one else "alone",
        n=400,
        right=360,
        cut=cut,
        unread=unread,
        unparsed=0,
        match=0.9,
        match_low=0.87,
        match_high=0.93,
        against=one,
    )


ALONE = side(None)


def codes(*levels: Against, alone: AnswersSide | None = ALONE) -> list[list[tuple[str, str]]]:
    """Return the code and severity of what is found at each level of one session."""
    found = judged([side(one) for one in levels], alone)
    return [[(f.code, f.severity.name) for f in findings(one)] for one in found]


@pytest.mark.parametrize(
    ("lost", "won", "said"),
    [
        (0, 0, []),
        (4, 0, [("answers_changed", "NOTE")]),  # p = .06
        (5, 0, [("answers_lost", "SUSPECT")]),  # 1.25 points
        (9, 2, [("answers_lost", "SUSPECT")]),
        (12, 0, [("answers_lost", "INVALID")]),  # 3 points
        (12, 1, [("answers_lost", "SUSPECT")]),  # 2.75
        (30, 28, [("answers_changed", "NOTE")]),
        (0, 20, [("answers_changed", "NOTE")]),  # more were won
    ],
)
def test_a_loss_counts_where_it_is_no_chance_and_worth_a_word(
    lost: int, won: int, said: list[tuple[str, str]]
) -> None:
    assert codes(against(lost, won)) == [said]


def test_a_loss_of_less_than_a_point_is_not_worth_a_word() -> None:
    assert codes(against(9, 0, pairs=1000)) == [[("answers_changed", "NOTE")]]
    assert codes(against(10, 0, pairs=1000)) == [[("answers_lost", "SUSPECT")]]


def test_texts_that_all_change_without_an_answer_are_a_note() -> None:
    assert codes(against(0, 0, texts=400)) == [[("answers_changed", "NOTE")]]


def test_several_levels_share_the_false_alarms() -> None:
    one, three = against(5, 0), [against(5, 0), against(0, 0), against(1, 1)]
    assert codes(one) == [[("answers_lost", "SUSPECT")]]
    assert [("answers_lost", "SUSPECT")] not in codes(*three)
    (first, *_) = judged([side(a) for a in three], ALONE)
    assert first.against is not None
    assert first.against.p_holm == pytest.approx(3 * one.p)


@pytest.mark.parametrize(
    ("alone", "why"),
    [
        (None, "no pass"),
        (side(None, cut=21), "doesn't fit this model"),
        (side(None, cut=10, unread=11), "doesn't fit this model"),
        (dataclasses.replace(ALONE, n=0), "no pass"),
        (dataclasses.replace(ALONE, right=4), "too few to be lost"),
    ],
)
def test_without_a_sound_pass_alone_there_is_no_verdict_and_it_is_said(
    alone: AnswersSide | None, why: str
) -> None:
    assert codes(against(40, 0), alone=alone) == [[("answers_unjudged", "NOTE")]]
    (found,) = judged([side(against(40, 0))], alone)
    assert found.against is not None
    assert why in (found.against.no_verdict or "")
    assert why in side_words(found)


def test_five_percent_that_cant_be_scored_still_fit() -> None:
    assert codes(against(20, 0), alone=side(None, cut=20)) == [[("answers_lost", "INVALID")]]


def test_a_level_without_answers_is_not_taken_for_a_sound_one() -> None:
    assert [f.code for f in findings(None)] == ["answers_unjudged"]


def test_the_words_have_the_counts_and_p() -> None:
    words = against_words(against(9, 2, texts=31))
    assert "31 of 400 differ" in words
    for figure in ("9 lost", "2 found", "p = .033"):
        assert figure in words
    assert "left out" not in words
    assert "3 left out" in against_words(dataclasses.replace(against(0, 0), left_out=3))


def test_what_is_lost_by_five_points_is_invalid() -> None:
    assert against(20, 0).net >= INVALID
    (found,) = judged([side(against(20, 0))], ALONE)
    assert [f.severity for f in findings(found)] == [Severity.INVALID]


# ---- power and false alarms: a quick part of `python -m tools.answers_truth` ----


@pytest.mark.parametrize("levels", [1, 4])
def test_of_a_hundred_sound_sessions_at_most_six_are_accused(levels: int) -> None:
    assert share_accused(400, levels, 100) <= 0.06


def test_a_loss_of_five_points_of_400_is_found_and_one_of_two_points_not_always() -> None:
    assert share_found(400, 0.05, 100) >= 0.9
    assert share_found(100, 0.1, 100) >= 0.8
    assert 0.3 < share_found(400, 0.02, 100) < 0.8


def test_the_tool_says_whether_its_bars_are_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["answers_truth", "--sessions", "40"])
    monkeypatch.setattr(answers_truth, "MOST_ACCUSED", 0.2)  # of so few, chance alone has 0.1
    assert answers_truth.main() == 0
    assert capsys.readouterr().out.count("400 questions") == 2
    monkeypatch.setattr(answers_truth, "FLIPS", 0.0)
    monkeypatch.setattr(answers_truth, "LEAST_FOUND", 1.1)
    assert answers_truth.main() == 1
