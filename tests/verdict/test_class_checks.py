"""What a server ignores silently: priorities under first come, first served; a form of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.summary.summary import facts_of as facts_of_run

from tests.support.made_runs import (
    made_info,
    made_record,
    server_row,
    summed,
    write_run,
    write_server_rows,
)
from tests.support.open_runs import facts_of
from tests.verdict.judging import NOTE, SUSPECT, doubts_of, healthy, severity_of

CHAT = {"class_": "chat"}
BATCH = {"class_": "batch"}


def classes(**priorities: int | None) -> dict[str, Any]:
    return {
        "classes": {
            name: {"num_requests": 50, "scenario": {"model": "m", "priority": priority}}
            for name, priority in priorities.items()
        }
    }


def mixed(chat_ms: float, batch_ms: float) -> list[RequestRecord]:
    """Requests of two classes in turn."""
    return [
        made_record(i, class_=name, ttft_ms=ms)
        for i, (name, ms) in enumerate([("chat", chat_ms), ("batch", batch_ms)] * 60)
    ]


@pytest.mark.parametrize(
    ("policy", "priorities", "expected"),
    [
        ("fcfs", {"chat": 0, "batch": 10}, SUSPECT),
        ("fcfs", {"chat": None, "batch": -1}, SUSPECT),  # none is 0
        ("fcfs", {"chat": None, "batch": 0}, None),
        ("fcfs", {"chat": 5, "batch": 5}, None),
        ("fcfs", {"chat": 5}, None),  # alone
        ("priority", {"chat": 0, "batch": 10}, None),
        (None, {"chat": 0, "batch": 10}, None),
    ],
)
def test_priorities_that_a_known_policy_ignores(
    tmp_path: Path, policy: str | None, priorities: dict[str, int | None], expected: object
) -> None:
    settings = {"settings": {"scheduling_policy": policy} if policy else {}}
    facts = facts_of(tmp_path, healthy(), plan=classes(**priorities), server=settings)
    assert severity_of(facts, "priority_ignored") == expected


@pytest.mark.parametrize(("source", "expected"), [("log", SUSPECT), ("metrics", None)])
def test_a_log_that_names_no_policy_tells_the_default(
    tmp_path: Path, source: str, expected: object
) -> None:
    settings = {"settings": {"told_by": source, "max_num_seqs": 4}}
    facts = facts_of(tmp_path, healthy(), plan=classes(chat=0, batch=10), server=settings)
    assert severity_of(facts, "priority_ignored") == expected


def queued(folder: Path, waiting: float, records: list[RequestRecord], **changes: Any) -> object:
    """Judge a run whose server had so many in its queue, and didn't tell its policy."""
    folder.mkdir()
    info = made_info(records, plan=classes(chat=0, batch=10), **changes)
    rows = write_run(folder, records, info)
    write_server_rows(rows, [server_row(float(s), waiting=waiting) for s in range(30)])
    return severity_of(facts_of_run(load_run(rows)), "priority_unseen")


def test_a_queue_that_is_in_no_order_of_priority_is_a_note(tmp_path: Path) -> None:
    assert queued(tmp_path / "same", 5, mixed(500, 500)) == NOTE
    assert queued(tmp_path / "worse", 5, mixed(900, 500)) == NOTE
    assert queued(tmp_path / "ordered", 5, mixed(200, 700)) is None
    assert queued(tmp_path / "empty", 0, mixed(500, 500)) is None
    told = {"server": {"settings": {"scheduling_policy": "fcfs"}}}
    assert queued(tmp_path / "told", 5, mixed(500, 500), **told) is None


def test_answers_without_their_form_are_counted_and_no_failures(tmp_path: Path) -> None:
    records = [
        *(made_record(i, answer_valid=1, finish_reason="stop", **CHAT) for i in range(90)),
        *(made_record(i, answer_valid=0, finish_reason="length") for i in range(90, 96)),
        *(made_record(i, answer_valid=0, finish_reason="stop", **CHAT) for i in range(96, 100)),
    ]
    facts = facts_of(tmp_path, records)
    assert severity_of(facts, "answers_invalid") == NOTE
    assert severity_of(facts, "form_dropped") is None
    by_class = [d.figures for d in doubts_of(facts, "answers_invalid")]
    assert [text.partition(" of ")[0] for text in by_class] == ["chat: 4", "6"]
    run = summed(tmp_path, records)
    assert run.answers_valid == pytest.approx(0.9)
    assert run.success_rate == 1.0


@pytest.mark.parametrize(
    ("ended", "valid", "reason", "expected"),
    [
        (5, 0, "stop", SUSPECT),
        (4, 0, "stop", None),
        (50, 1, "stop", None),
        (50, 0, "length", None),  # all were cut: nobody knows
    ],
)
def test_a_form_that_the_server_dropped(
    tmp_path: Path, ended: int, valid: int, reason: str, expected: object
) -> None:
    bad = [made_record(i, answer_valid=0, finish_reason=reason, **BATCH) for i in range(ended)]
    good = [made_record(ended + i, answer_valid=1, **BATCH) for i in range(valid)]
    # Another class's answers, which are held to theirs, don't hide it.
    others = [made_record(100 + i, answer_valid=1, **CHAT) for i in range(20)]
    facts = facts_of(tmp_path, [*bad, *good, *others])
    assert severity_of(facts, "form_dropped") == expected
    assert (severity_of(facts, "answers_invalid") is None) == (expected is SUSPECT)


def test_a_run_without_forms_has_no_share(tmp_path: Path) -> None:
    assert summed(tmp_path, healthy(20)).answers_valid is None


def test_models_of_classes_are_their_own(tmp_path: Path) -> None:
    info = {"chat": {"scenario": {"model": "red"}}, "batch": {"scenario": {"model": "blue"}}}
    said = {"replied_as": {"red": 50, "blue": 50}}
    of_both = facts_of(tmp_path, healthy(), plan={"classes": info}, server=said)
    assert severity_of(of_both, "other_model") is None
    of_one = facts_of(tmp_path, healthy(), server=said)
    assert severity_of(of_one, "other_model") == SUSPECT
