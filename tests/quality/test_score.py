"""What an answer says: the last mark, else the last number, compared as numbers."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.quality.score import number_of, read_answer, same, scored


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 and 3 are 5.\n#### 5", "5"),
        ("#### 4\nNo, wait.\n#### 5", "5"),  # the last one counts
        (r"so \boxed{5}", "5"),
        (r"\boxed{4}, and in full \boxed{ \$1,200 }", "1,200"),
        (r"#### 4" + "\n" + r"\boxed{5}", "5"),
        (r"\boxed{4}" + "\n#### 5", "5"),
        ("#### $1,200.", "1,200"),
        ("#### 70000.00", "70000.00"),
        ("#### **18**", "18"),
        ("`#### 18`", "18"),
        ("#### <18>", "18"),
        ("####18", "18"),
        ("#### : 18", "18"),
        ("####\n18", "18"),
        ("####\r\n\r\n 18 \r\n", "18"),
        ("#### 18 apples in 3 boxes", "18"),
        ("#### 3 * 6 = 18", "18"),
        ("#### x = 18", "18"),
        ("#### 18 = 3 * 6", "18"),
        ("#### 0 = 3 - 3", "0"),
        ("#### (1 + 5) * 3 = 18", "18"),
        ("#### 18 (5 = 2 + 3)", "18"),
        ("#### (18)", "18"),
        ("#### 3 * 6 = 18 = 9 * 2", "18"),
        ("#### -5", "-5"),
        ("#### \N{MINUS SIGN}5", "-5"),
        ("#### .5", ".5"),
        ("#### 12%", "12"),
        (r"\boxed{70{,}000}", "70,000"),
        (r"\boxed{\text{about } 18}", "18"),
    ],
)
def test_a_marked_number_is_read(text: str, found: str) -> None:
    answer = read_answer(text, numeric=True)
    assert (answer.found, answer.unparsed) == (found, False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the answer is 5", "5"),
        ("first 4, then 5.", "5"),
        ("#### Final answer\nIt is 18.", "18"),  # a heading, no answer
        ("17\n#### <number>", "17"),  # the question, said again
        (r"it is 18, \boxed{", "18"),  # cut in the middle
        ("no idea", None),
        ("", None),
        ("####", None),
        (r"\boxed{}", None),
    ],
)
def test_without_a_marked_number_the_last_one_counts_and_is_marked(
    text: str, found: str | None
) -> None:
    answer = read_answer(text, numeric=True)
    assert (answer.found, answer.unparsed) == (found, True)


@pytest.mark.parametrize(
    ("text", "found", "unparsed"),
    [
        ("#### Paris", "Paris", False),
        ("#### **Paris**.", "Paris", False),
        (r"\boxed{B}", "B", False),
        ("#### (B)", "B", False),
        ("It is Paris 2024.", None, True),  # a text has no fallback
    ],
)
def test_a_text_answer_needs_a_mark(text: str, found: str | None, unparsed: bool) -> None:
    answer = read_answer(text, numeric=False)
    assert (answer.found, answer.unparsed) == (found, unparsed)


@pytest.mark.parametrize(
    ("found", "wanted", "equal"),
    [
        ("18", "18", True),
        ("18.00", "18", True),
        ("1,200", "1200", True),
        ("$18.", "18", True),
        ("0.3333333", "0.33333333", True),
        ("18.001", "18", False),
        ("-18", "18", False),
        ("180", "18", False),
        ("1,8", "18", False),
        ("٣", "3", True),  # digits of any script
        ("Paris", "Paris", True),
        (" Paris. ", "Paris", True),
        ("paris", "Paris", False),
        ("Paris", "18", False),
        ("12345678901234567890", "12345678901234567891", False),
    ],
)
def test_numbers_are_compared_as_numbers_and_texts_to_the_letter(
    found: str, wanted: str, equal: bool
) -> None:
    assert same(found, wanted) is equal


def test_a_cut_answer_is_wrong_whatever_it_says() -> None:
    assert scored("#### 18", "18", cut=False).right
    cut = scored("#### 18", "18", cut=True)
    assert (cut.right, cut.cut, cut.found) == (False, True, "18")


def test_the_text_is_told_by_its_hash() -> None:
    assert scored("#### 18", "18", cut=False).text_sha256 == hashlib.sha256(b"#### 18").hexdigest()


@given(st.integers(-(10**12), 10**12), st.text(max_size=40), st.sampled_from(["{}", "{:,}"]))
def test_a_number_on_the_last_line_is_found_in_any_text(n: int, text: str, form: str) -> None:
    said = f"{text}\n#### {form.format(n)}"
    assert scored(said, str(n), cut=False).right
    assert not scored(said, str(n + 1), cut=False).right


@given(st.text())
def test_any_text_can_be_scored(text: str) -> None:
    for wanted in ("18", "Paris"):
        found = scored(text, wanted, cut=False)
        assert found.found is None or len(found.found) <= 64
        assert not (found.right and found.found is None)


@given(st.decimals(-1000000, 1000000, places=3))
def test_a_number_is_read_as_it_is(n: Decimal) -> None:
    assert number_of(f"{n:,}") == n


@pytest.mark.parametrize("text", ["", "18 apples", "1e5", "3/4", "--5", "1.2.3", "five"])
def test_what_is_no_number_is_a_text(text: str) -> None:
    assert number_of(text) is None
