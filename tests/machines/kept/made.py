"""Requests that have ended, made up."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from vllm_bench.crew.judged import NO_READS, Judged

from tests.support.made_runs import failed_record, made_answer, made_record

RUN_ID = made_record().run_id


def made_judged(index: int = 0, stamps: Sequence[int] = (), **changes: Any) -> Judged:
    """A measured success, whose reads brought a token each at these instants."""
    ones = [1] * len(stamps)
    reads = (array("q", stamps), array("H", ones), array("H", ones))
    record = made_record(index, token_reads=len(stamps), token_events=len(stamps))
    return Judged(**{"role": "measured", "record": record, "reads": reads, **changes})


def answered(index: int, text: str) -> Judged:
    """A success on a question, and what it says."""
    return made_judged(index, [1_000_000], answer=(made_answer(index), text))


NS = st.integers(-(2**53), 2**53)
HALVES = st.text(st.characters(exclude_categories=()), max_size=40)  # of surrogate pairs, too


@st.composite
def judged_requests(draw: st.DrawFn) -> Judged:
    """Any request that a run may judge."""
    index = draw(st.integers(0, 10**9))
    if draw(st.booleans()):
        record = failed_record(index, error=draw(HALVES))
        role = draw(st.sampled_from(["measured", "tail"]))
        return Judged(role, record, NO_READS, None, None, None, draw(st.booleans()))
    stamps = draw(st.lists(NS, max_size=8))
    counts = [draw(st.integers(0, 65535)) for _ in stamps]
    reads = (array("q", stamps), array("H", counts), array("H", counts))
    answer = answered(index, draw(HALVES)).answer if draw(st.booleans()) else None
    names = st.none() | HALVES
    record = made_record(index, t_sent_s=draw(st.floats(-1e6, 1e6)), error=None)
    return Judged("measured", record, reads, answer, draw(names), draw(names), away=False)
