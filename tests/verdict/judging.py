"""What a verdict says of a made run: how bad a code is, and the value that its check measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.token_gaps import reads_of
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.verdict.finding import Doubt, Family, Severity
from vllm_bench.verdict.verdict import CHECKS, judge

from tests.support.made_runs import made_record
from tests.support.open_runs import finding_of

NOTE, SUSPECT, INVALID = Severity.NOTE, Severity.SUSPECT, Severity.INVALID


def healthy(count: int = 100, **changes: object) -> list[RequestRecord]:
    """A run of some length: four streams, four requests a second."""
    return [made_record(i, **changes) for i in range(count)]


def severity_of(facts: Facts, code: str) -> Severity | None:
    found = finding_of(facts, code)
    return found.severity if found else None


def value_of(facts: Facts, code: str) -> float:
    """What the check measured, whether or not that is past a limit."""
    (doubt,) = doubts_of(facts, code)
    return doubt.value


def doubts_of(facts: Facts, code: str) -> tuple[Doubt, ...]:
    """What the check saw, whether or not that is past a limit."""
    (check,) = [check for check in CHECKS if check.code == code]
    return check.doubts(facts)


def families_of(facts: Facts, code: str) -> dict[Family, Severity]:
    """How bad a code is for each family of figures that it is about."""
    return {f.about: f.severity for f in judge(facts).findings if f.code == code}


def advice_on(facts: Facts, code: str) -> str:
    found = finding_of(facts, code)
    assert found is not None
    return found.advice


def stamped(facts: Facts, *, events: Sequence[int], ms: ArrayLike) -> Facts:
    """The same run, in which every reply's reads brought so many events, so long after its send.

    `ms` is one list for all replies, or one for each.
    """
    count = facts.rows
    sent_ns = (1e9 * facts.frame["t_sent_s"]).astype("int64")
    arrays = {
        "request_index": facts.frame["request_index"].astype("int32"),
        "first_read": np.arange(count + 1) * len(events),
        "t_ns": (sent_ns[:, None] + (1e6 * np.array(ms)).astype("int64")).ravel(),
        "events": np.tile(np.array(events, dtype="int32"), count),
        "tokens": np.zeros(count * len(events), dtype="int32"),
    }
    return dataclasses.replace(facts, reads=reads_of(arrays, facts.succeeded))
