from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.faults import Fault, FaultError, fault_of, read_faults


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ("crlf", [Fault("crlf")]),
        ("http_503:0.02", [Fault("http_503", 0.02)]),
        ("error_event:0.05@7", [Fault("error_event", 0.05, None, 7)]),
        ("error_event", [Fault("error_event", after_tokens=5)]),
        ("stall:#3,7@10=400ms", [Fault("stall", 1, frozenset({3, 7}), 10, 0.4)]),
        ("stall=2s", [Fault("stall", 1, None, 5, 2.0)]),
        ("merge=3", [Fault("merge", value=3)]),
        ("cut : #1 @ 2", [Fault("cut", 1, frozenset({1}), 2)]),
        (
            "reset:#1,2, crlf:0.5 ,cut:#4",
            [
                Fault("reset", 1, frozenset({1, 2}), 5),
                Fault("crlf", 0.5),
                Fault("cut", 1, frozenset({4}), 5),
            ],
        ),
        ("slow_ready=200ms", [Fault("slow_ready", value=0.2)]),
        ("", []),
    ],
)
def test_a_line_of_faults_is_read(spec: str, faults: list[Fault]) -> None:
    assert list(read_faults(spec)) == faults


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("eror_event", "unknown kind 'eror_event'; did you mean error_event? (known: http_400"),
        ("stall:1.5", "rate '1.5' is no share from 0 to 1"),
        ("stall:often", "rate 'often'"),
        ("stall:#0", "request number '0'"),
        ("stall:#a", "request number 'a'"),
        ("stall=400", "no duration such as 400ms"),
        ("stall@x", "after_tokens 'x'"),
        ("merge=many", "value 'many'"),
        ("crlf@3", "crlf takes no @"),
        ("cut=3", "cut takes no ="),
        ("slow_ready:0.5", "slow_ready is the server's"),
        ("@3", "is no fault"),
    ],
)
def test_a_wrong_fault_is_named_with_what_is_allowed(spec: str, words: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_faults(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(
        "faults:\n"
        "  - {kind: error_event, rate: 0.05, after_tokens: 5}\n"
        "  - {kind: stall, requests: [3, 7], after_tokens: 10, value: 400ms}\n"
        "  - kind: crlf\n"
    )
    line = "error_event:0.05@5, stall:#3,7@10=400ms, crlf"
    assert read_faults(str(file)) == read_faults(line)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "faults:\n  - {kind: cut, after_token: 3}\n",
            "unknown key 'after_token'; did you mean after_tokens?",
        ),
        ("faults:\n  - {rate: 3}\n", "needs a `kind`"),
        ("- cut\n", "needs a list under `faults:`"),
        ("faults: {", "is no YAML"),
        ("faults:\n  - {kind: cut, rate: 0.5, requests: [1]}\n", "not both"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(content)
    with pytest.raises(FaultError, match=r"faults\.yaml") as caught:
        read_faults(str(file))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FaultError, match=r"cannot read nowhere\.yaml"):
        read_faults("nowhere.yaml")


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20))
def test_who_is_struck_depends_on_the_seed_and_the_number_alone(seed: int, number: int) -> None:
    faults = read_faults("cut:0.3, stall:0.5, crlf:#5")
    assert fault_of(faults, number, seed) == fault_of(faults, number, seed)


def test_the_rate_is_the_share_and_the_first_that_strikes_is_played() -> None:
    faults = read_faults("slow_ready, cut:#3, stall:0.25, crlf:0.5")
    played = [fault_of(faults, number, 7) for number in range(1, 4001)]
    kinds = [fault.kind if fault else None for fault in played]
    assert kinds[2] == "cut"
    assert 900 < kinds.count("stall") < 1100
    assert 1350 < kinds.count("crlf") < 1650  # half of what stall left
    other = [fault_of(faults, number, 8) for number in range(1, 4001)]
    assert played != other
