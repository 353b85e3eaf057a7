"""A verdict is its gravest finding; a check is a code with limits, each with its reason."""

from __future__ import annotations

import pytest
from vllm_bench.figures.facts import Facts
from vllm_bench.records.text import ABSENT
from vllm_bench.verdict.finding import Check, Doubt, Finding, Setting, check, found_by
from vllm_bench.verdict.verdict import CHECKS, Verdict, finding_text, findings, headline, judge

from tests.support.made_runs import failed_record, frame_of, made_info
from tests.support.open_runs import facts_of
from tests.verdict.judging import INVALID, NOTE, SUSPECT, healthy


def test_a_healthy_run_is_valid_and_has_nothing_to_note(tmp_path):
    verdict = judge(facts_of(tmp_path, healthy()))
    assert (verdict.level, verdict.findings, headline(verdict)) == ("VALID", (), "VALID")


def test_the_gravest_finding_decides_and_comes_first(tmp_path):
    records = [*healthy(3), failed_record(3)]
    verdict = judge(facts_of(tmp_path, records, server={"on_client_machine": True}))
    grades = [f.severity for f in verdict.findings]
    assert verdict.level == "INVALID"
    assert grades == sorted(grades, reverse=True)
    assert verdict.findings[0].code == "errors"
    assert [f.code for f in verdict.notes] == ["same_machine"]
    assert "same_machine" not in verdict.reasons


def test_the_printed_verdict_is_a_headline_and_lines_without_control_characters(tmp_path):
    records = [failed_record(i, error_kind="\x1b[31mred") for i in range(10)]
    verdict = judge(facts_of(tmp_path, records))
    assert verdict.reasons == "errors"
    assert headline(verdict) == f"INVALID ({verdict.reasons})"
    lines = [finding_text(f) for f in verdict.findings]
    assert len(lines) == 1
    assert all("\x1b" not in line and "\n" not in line for line in lines)


def test_rows_without_their_json_are_never_valid(tmp_path):
    verdict = judge(Facts(frame_of(tmp_path, healthy()), None))
    assert verdict.level == "SUSPECT"
    assert [f.code for f in verdict.findings] == ["no_run_info"]


def test_a_run_without_a_row_is_invalid(tmp_path):
    info = made_info([], status="running", num_requests=50)
    assert judge(Facts(frame_of(tmp_path, []), info)).level == "INVALID"


def test_every_check_has_a_code_of_its_own_a_meaning_and_a_reason_and_its_limits_rise():
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    assert all(check.meaning and check.rule.why for check in CHECKS)
    limits = [(check.rule.suspect, check.rule.invalid) for check in CHECKS]
    numbers = [(low, high) for low, high in limits if type(low) is type(high) is float]
    assert len(numbers) > 5
    assert all(low < high for low, high in numbers)


def found_in(folder, *checks: Check) -> list[Finding]:
    """Return what these checks find in a healthy run."""
    return findings(list(found_by(checks, facts_of(folder, healthy(1)))))


NUMBERS = {"suspect": 0.1, "invalid": 0.2}
WORDS = {"suspect": "some", "invalid": "all"}


@pytest.mark.parametrize(
    ("limits", "value", "at_most", "expected"),
    [
        (NUMBERS, 0.1, INVALID, None),  # the limit itself is within
        (NUMBERS, 0.11, INVALID, SUSPECT),
        (NUMBERS, 0.2, INVALID, SUSPECT),
        (NUMBERS, 0.21, INVALID, INVALID),
        (NUMBERS, 0.21, NOTE, NOTE),
        (NUMBERS, 0.1, NOTE, None),
        ({"suspect": 0.1}, 9.0, INVALID, SUSPECT),
        ({"suspect": "always"}, 0.0, INVALID, SUSPECT),
        ({"invalid": "any"}, 0.0, INVALID, INVALID),
        (WORDS, 0.0, SUSPECT, SUSPECT),
        (WORDS, 0.0, INVALID, INVALID),
        ({}, 0.0, INVALID, NOTE),
    ],
)
def test_a_value_past_a_limit_is_as_bad_as_that_or_as_the_check_allows(
    tmp_path, limits, value, at_most, expected
):
    @check("here it is made up", **limits)
    def made_up(facts: Facts) -> Doubt:
        """What it says."""
        return Doubt("figures", "advice", value, at_most)

    found = found_in(tmp_path, made_up)
    assert [f.severity for f in found] == ([] if expected is None else [expected])
    assert all((f.code, f.figures) == ("made_up", "figures") for f in found)


@pytest.mark.parametrize(
    ("limits", "suspect", "invalid"),
    [
        (NUMBERS, "> 10 %", "> 20 %"),
        ({**NUMBERS, "unit": "ms"}, "> 0.1 ms", "> 0.2 ms"),
        ({**NUMBERS, "only": (" on Mondays", "")}, "> 10 % on Mondays", "> 20 %"),
        (WORDS, "some", "all"),
        ({}, ABSENT, ABSENT),
    ],
)
def test_a_check_is_a_row_of_the_table_of_codes(limits, suspect, invalid):
    @check("why", **limits)
    def code(facts: Facts) -> None:
        """Meaning."""

    assert code.row == ("`code`", "Meaning.", "all", suspect, invalid, "why")


def made_up(code, *doubts, **rule):
    """A check of this code that has these doubts about any run."""

    def find(facts: Facts) -> tuple[Doubt, ...]:
        """What it says."""
        return doubts

    find.__name__ = code
    return check("here it is made up", suspect="always", **rule)(find)


def test_a_doubt_may_be_about_fewer_figures_than_its_check(tmp_path):
    narrow = made_up("a", Doubt("", "", about="gaps"), Doubt("", ""), about=("pace", "gaps"))
    found = found_in(tmp_path, narrow)
    assert [f.about for f in found] == ["gaps", "pace"]


def test_what_another_code_explains_is_not_said(tmp_path):
    cause = made_up("cause", Doubt("", ""))
    effect = made_up("effect", Doubt("", ""), silenced_by=("cause",))
    assert [f.code for f in found_in(tmp_path, effect, cause)] == ["cause"]
    assert [f.code for f in found_in(tmp_path, effect)] == ["effect"]


def test_of_several_values_for_a_key_the_largest_is_advised_everywhere(tmp_path):
    few = made_up("few", Doubt("", "{set}", sets=Setting("num_requests", 60)))
    many = made_up("many", Doubt("", "please {set}", sets=Setting("num_requests", 401)))
    longer = made_up("longer", Doubt("", "{set}", sets=Setting("duration_s", 9.5)))
    found = found_in(tmp_path, few, many, longer)
    assert [f.advice for f in found] == [
        "set num_requests to about 410",
        "please set num_requests to about 410",
        "set duration_s to about 10",
    ]


def test_the_word_of_a_family_is_of_its_findings_and_those_about_all():
    def finding(about, severity):
        return Finding("code", severity, "", "", about)

    verdict = Verdict(
        (finding("gaps", INVALID), finding("TTFT", SUSPECT), finding("GPUs", INVALID)),
    )
    words = {family: verdict.of(family) for family in ("TTFT", "pace", "gaps", "GPUs")}
    assert words == {"TTFT": "SUSPECT", "pace": "VALID", "gaps": "INVALID", "GPUs": "INVALID"}
    assert verdict.level == "SUSPECT"  # neither gaps nor GPUs are what a run is first read for
    assert len(verdict.doubts) == 1
    assert len(verdict.notes) == 2
    everything = Verdict((finding("all", INVALID),))
    assert {everything.of(family) for family in ("TTFT", "pace", "gaps", "GPUs")} == {"INVALID"}
