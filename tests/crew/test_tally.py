"""What is counted of the replies themselves, besides their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from vllm_bench.crew.judged import Kept, RunFiles
from vllm_bench.crew.tally import MOST_MODELS, MOST_NAME, OTHER_MODELS, Tally
from vllm_bench.live.progress import progress_of
from vllm_bench.plan.plan import Plan
from vllm_bench.records.request_record import read_rows
from vllm_bench.reply.exchange import Exchange, Segment

from tests.support.far_end import delta, event, good_stream
from tests.support.made_plans import made_plan


def files(plan: Plan, rows: Path) -> RunFiles:
    """Return the files of a run, with the stamps of its tokens."""
    return RunFiles(plan, rows, Kept(tokens=rows.parent))


def tallied(path: Path, models: Sequence[object]) -> Tally:
    """Return a tally of replies that name these models."""
    plan = made_plan(len(models), num_requests=len(models), concurrencies=[1])
    kept = files(plan, path)
    tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), kept)
    tally.begin(0)
    for index, model in enumerate(models):
        stream = event({"model": model, "choices": []}) + b"".join(good_stream())
        made = Exchange(index, 0, 0, 0, t_end_ns=9, http_status=200, reads=[(5, stream)])
        made.content_type = "text/event-stream"
        tally.end(made)
    tally.write()
    kept.close()
    return tally


def test_replies_are_counted_by_the_model_that_they_name(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    tally = tallied(path, ["tiny", "tiny", "other", None, 7])
    assert tally.replied_as == {"tiny": 2, "other": 1}
    assert len(read_rows(path)) == 5


def test_many_names_and_long_ones_are_bounded(tmp_path: Path) -> None:
    models = [*(f"m{n}" for n in range(MOST_MODELS - 1)), "x" * 9999, *(f"n{n}" for n in range(20))]
    tally = tallied(tmp_path / "r.csv", [*models, "m0"])
    assert len(tally.replied_as) == MOST_MODELS + 1
    assert max(map(len, tally.replied_as)) == MOST_NAME
    assert (tally.replied_as["m0"], tally.replied_as[OTHER_MODELS]) == (2, 20)


def test_uses_of_a_prompt_are_counted_by_rows_where_a_loop_goes_by_time(tmp_path: Path) -> None:
    # Of several machines each goes on in its own order: what was sent has gaps.
    by_time = {"concurrencies": [4], "num_requests": None, "duration_s": 5.0}
    for settings, uses in ((by_time, {"p0": 2, "p2": 2, "p1": 1}), ({"num_requests": 3}, None)):
        plan = made_plan(3, **settings)
        kept = files(plan, tmp_path / f"{len(settings)}.csv")
        tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), kept)
        tally.begin(0)
        for index in (0, 2, 6, 8, 13) if uses else (0, 2):
            tally.end(Exchange(index, 0, 0, 0, t_end_ns=9, http_status=500))
        tally.write()
        kept.close()
        assert tally.uses == uses


BROKEN = {
    "oversized": [b"x" * 65_536] * 300,
    "overlong": [delta("a") * 100] * 300,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_reply_that_breaks_a_bound_is_told_once_and_has_its_row(
    tmp_path: Path, kind: str
) -> None:
    plan = made_plan(2, num_requests=2, concurrencies=[1])
    path = tmp_path / "r.csv"
    kept = files(plan, path)
    tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), kept)
    tally.begin(0)
    parts = [Segment(0, 200, [(5, chunk)]).packed() for chunk in BROKEN[kind]]
    told = [failure for failure in map(tally.segment, parts) if failure is not None]
    assert [failure.kind for failure in told] == [kind]
    ended = Exchange(0, 0, 0, 0, t_end_ns=9, http_status=200, content_type="text/event-stream")
    ended.failure = told[0]
    tally.end(ended)
    good = Exchange(1, 0, 0, 0, t_end_ns=9, http_status=200, content_type="text/event-stream")
    assert tally.segment(Segment(1, 200, [(5, b"".join(good_stream()))]).packed()) is None
    tally.end(good)
    tally.write()
    kept.close()
    assert read_rows(path)["error_kind"].tolist() == [kind, None]


ODD_REPLIES = [
    b"",
    b"\xff\xfe\x00",
    b"data: {" * 3,
    event({"usage": {"prompt_tokens": 2**62, "completion_tokens": 1}}),
    event({"usage": {"completion_tokens": 1e308}}),
    event({"choices": [{"index": 10**30, "finish_reason": {"type": "stop"}}]}),
    event({"error": "x"}).replace(b'"x"', b'{"error":' * 990 + b"1" + b"}" * 990),
    event({"error": "x"}).replace(b'"x"', b"[" * 990 + b"]" * 990),
    event({"error": {"message": "\ud83d", "code": 10**30}}),
    event({"model": "\ud83d", "system_fingerprint": "\ud83d", "choices": []}),
    delta("\ud83d", "\ud83d"),
]


def test_no_reply_takes_the_others_along(tmp_path: Path) -> None:
    count = 2 * len(ODD_REPLIES)
    plan = made_plan(count, num_requests=count, concurrencies=[1])
    path = tmp_path / "r.csv"
    kept = files(plan, path)
    tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), kept)
    tally.begin(0)
    for index in range(count):
        stream = b"".join(good_stream()) if index % 2 else ODD_REPLIES[index // 2]
        tally.segment(Segment(index, 200, [(5, stream)]).packed())
        made = Exchange(index, 0, 0, 0, t_end_ns=9, http_status=200, framed=True)
        made.content_type = "text/event-stream"
        tally.end(made)
    tally.write()
    kept.close()
    kinds = read_rows(path)["error_kind"].tolist()
    assert kinds[1::2] == [None] * len(ODD_REPLIES)
    assert None not in kinds[::2]
