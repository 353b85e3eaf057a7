"""How many answers are right, and pairs of them: against what a person counts, and scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.answers.side import answers_side, mcnemar, paired
from vllm_bench.records.beside.answers import AnswerRow, AnswerWriter, read_answers
from vllm_bench.records.request_record import RecordsError
from vllm_bench.records.row import Rows


def answer(index: int, **changes: Any) -> AnswerRow:
    """A right answer."""
    whole = {
        **{"request_index": index, "prompt_id": f"q:{index}", "right": 1, "found": "18"},
        **{"unparsed": 0, "cut": 0, "text_sha256": "a" * 64, "tokens": 9},
    }
    return AnswerRow(**{**whole, **changes})


def written(folder: Path, rows: Sequence[AnswerRow], run_id: str = "r") -> Rows:
    writer = AnswerWriter(folder / "answers", run_id)
    writer.write([(row, "said") for row in rows], ())
    writer.close()
    found = read_answers(folder / f"{run_id}.csv")
    assert found is not None
    return found


def test_answers_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    rows = [
        *(answer(i) for i in range(6)),
        answer(6, right=0, found="17"),
        answer(7, right=0, found=None, unparsed=1),
        answer(8, right=0, found="18", cut=1),
        answer(9, right=0, found=None, cut=1, unparsed=1),
        answer(10, unparsed=1),
    ]
    side = answers_side(written(tmp_path, rows), "load")
    counts = (side.n, side.right, side.cut, side.unread, side.unparsed)
    assert counts == (11, 7, 2, 1, 1)  # each is counted once
    assert side.match == pytest.approx(7 / 11)
    assert side.unfit == pytest.approx(3 / 11)


def test_the_interval_is_clopper_and_pearsons(tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    side = answers_side(
        written(tmp_path, [answer(i, right=int(i < 37)) for i in range(40)]), "load"
    )
    low, high = stats.binomtest(37, 40).proportion_ci(0.95, method="exact")
    assert (side.match_low, side.match_high) == (pytest.approx(low), pytest.approx(high))


def test_a_run_without_a_success_has_no_match(tmp_path: Path) -> None:
    side = answers_side(written(tmp_path, []), "alone")
    assert (side.n, side.match, side.match_low, side.unfit) == (0, None, None, 1.0)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomials_upper_tail(lost: int, won: int) -> None:
    n = lost + won
    exact = sum(math.comb(n, k) for k in range(lost, n + 1)) / 2**n
    assert mcnemar(lost, won) == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_five_lost_and_none_won_is_the_least_that_shows() -> None:
    assert mcnemar(5, 0) == pytest.approx(0.03125)
    assert mcnemar(4, 0) > 0.05
    assert mcnemar(9, 2) == pytest.approx(0.0327, abs=1e-4)


def test_answers_pair_by_question_whatever_their_order(tmp_path: Path) -> None:
    alone = written(tmp_path, [answer(i, right=int(i != 3)) for i in range(10)], "alone")
    changed = [
        answer(90, prompt_id="q:0", right=0, found="17", text_sha256="b"),  # lost
        answer(91, prompt_id="q:3", right=1, text_sha256="b"),  # won
        answer(92, prompt_id="q:1", text_sha256="b"),  # other words
        *(answer(i) for i in (9, 8, 7, 5, 4)),  # q:2 and q:6 failed
    ]
    found = paired(written(tmp_path, changed, "load"), alone, 0.9, 10)
    assert (found.pairs, found.left_out) == (8, 2)
    assert (found.lost, found.won, found.texts_changed, found.changed) == (1, 1, 3, 1)
    assert found.net == 0
    assert found.p == mcnemar(1, 1)


def test_of_a_question_that_was_asked_twice_the_first_answer_counts(tmp_path: Path) -> None:
    alone = written(tmp_path, [answer(0)], "alone")
    twice = [answer(1, prompt_id="q:0", right=0), answer(2, prompt_id="q:0")]
    assert paired(written(tmp_path, twice, "load"), alone, 1.0, 1).lost == 1


def test_texts_are_kept_apart_masked_and_bounded(tmp_path: Path) -> None:
    writer = AnswerWriter(tmp_path / "answers", "r", texts=True)
    secret = "sk-hunter2hunter2"
    told = [(answer(0), f"key {secret}\n\ud800"), (answer(1), "x" * 30_000)]
    writer.write(told, (secret,))
    writer.close()
    lines = (tmp_path / "answers" / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert secret not in lines[0]
    assert '"prompt_id":"q:0"' in lines[0]
    assert len(lines[1]) < 21_000


def test_what_was_cut_off_by_a_kill_is_left_out_and_damage_is_told(tmp_path: Path) -> None:
    written(tmp_path, [answer(0), answer(1)])
    path = tmp_path / "answers" / "r.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    found = read_answers(tmp_path / "r.csv")
    assert found is not None
    assert len(found) == 1
    for damaged in (
        whole.replace(b"q:1,1,", b"q:1,2,"),
        whole.replace(b"1,q:1", b"0,q:1"),
        whole.replace(b"q:1", b""),
        whole.replace(b",right", b",wrong"),
        whole.replace(b"1,q:1,", b"1,q:1,,"),
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(RecordsError, match="not the answers of a run"):
            read_answers(tmp_path / "r.csv")
    path.unlink()
    assert read_answers(tmp_path / "r.csv") is None


def test_a_formula_is_no_formula_in_the_file(tmp_path: Path) -> None:
    rows = written(tmp_path, [answer(0, found="=cmd|x"), answer(1, found="-5")])
    assert rows["found"].tolist() == ["=cmd|x", "-5"]
    assert b",=cmd" not in (tmp_path / "answers" / "r.csv").read_bytes()
