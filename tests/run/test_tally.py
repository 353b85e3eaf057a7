"""What is counted of the replies themselves, besides their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vllm_bench.live.progress import progress_of
from vllm_bench.records.request_record import RecordWriter, read_rows
from vllm_bench.reply.exchange import Exchange
from vllm_bench.run.tally import MOST_MODELS, MOST_NAME, OTHER_MODELS, Tally

from tests.support.far_end import event, good_stream
from tests.support.made_plans import made_plan


def tallied(path: Path, models: Sequence[object]) -> Tally:
    """Return a tally of replies that name these models."""
    plan = made_plan(len(models), num_requests=len(models), concurrencies=[1])
    tally = Tally(plan, progress_of(plan, lambda: 0, 0.0), RecordWriter(path))
    tally.begin(0, None)
    for index, model in enumerate(models):
        stream = event({"model": model, "choices": []}) + b"".join(good_stream())
        made = Exchange(index, 0, 0, 0, t_end_ns=9, http_status=200, reads=[(5, stream)])
        made.content_type = "text/event-stream"
        tally.end(made)
    tally.write()
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
