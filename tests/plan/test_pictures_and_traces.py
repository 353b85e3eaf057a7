"""Pictures, traceparent and --profile, from the file of prompts to the run's own files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.plan.share import PlannedRequest
from vllm_bench.prompts.prompt import PromptError
from vllm_bench.records.find_runs import load_run
from vllm_bench.run.prepare import plans_for
from vllm_bench.scenario.scenario import Scenario
from vllm_bench.simulator import simulator
from vllm_bench.summary.summary import summarize

from tests.prompts.test_images import asked, data_url, file_of, png
from tests.support.running import run_bench, write_scenario

WANTED: dict[str, Any] = {
    **{"model": "m", "max_new_tokens": 8, "ignore_eos": True},
    **{"concurrencies": [2], "duration_s": 2, "dataset": "file:seen.jsonl"},
}


def test_a_traceparent_is_the_requests_own_and_its_id_is_in_the_row() -> None:
    one, two = (PlannedRequest(n, f"run-{n}", "p", b"{}", 8, traced=True) for n in (0, 1))
    found = re.search(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r\n", one.after(b""))
    assert found is not None
    assert found[1].decode() == one.trace_id != two.trace_id
    assert one.after(b"HEAD\r\n").startswith(b"HEAD\r\ntraceparent")
    untraced = PlannedRequest(0, "run-0", "p", b"{}", 8)
    assert untraced.trace_id is None
    assert b"traceparent" not in untraced.after(b"")


@pytest.mark.process
def test_pictures_are_counted_requests_are_traced_and_the_profile_is_told(tmp_path: Path) -> None:
    rows = [asked(data_url(png(n))) for n in range(6)] + [
        asked(*[data_url(png(n))] * 2) for n in (7, 8)
    ]
    file_of(tmp_path, *rows)
    with simulator("--served-model-name", "m", "--profiler-config", "{}") as (url, _):
        path = write_scenario(
            tmp_path, base_url=url, **{**WANTED, "dataset": f"file:{tmp_path / 'seen.jsonl'}"}
        )
        done = run_bench(tmp_path, path, "--traceparent", "--profile", "0.2")
    assert done.returncode in (0, 4), done.stderr
    (rows_file,) = (tmp_path / "results").glob("*.csv")
    run = load_run(rows_file)
    assert run.frame["error"].tolist() == [None] * len(run.frame)
    assert len(set(run.frame["trace_id"].tolist())) == len(run.frame)
    assert {round(n / 108) for n in run.frame["prompt_tokens"].tolist()} == {1, 2}
    assert (run.frame["prompt_tokens"] == run.frame["prompt_tokens_planned"]).all()
    profile = json.loads(rows_file.with_suffix(".json").read_text())["observed"]["profile"]
    assert profile["problem"] is None
    assert 0 < profile["from_s"] < profile["to_s"]
    assert "profiled" in {f.code for f in summarize(run).verdict.findings}


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"endpoint": "completions"}, "endpoint:"),
        ({"prefix": {"groups": 2, "tokens": 64}, "prefill_tokens": 256}, "prefix"),
        ({"trace": "azure.csv"}, "trace"),
        ({"prompt_fit": "packed", "prefill_tokens": 256}, "packed"),
        ({"conversations": {"turns": 2}}, "image_url"),
    ],
    ids=str,
)
def test_what_would_leave_pictures_out_is_refused(
    tmp_path: Path, settings: dict[str, Any], word: str
) -> None:
    # A picture that is left out looks like a server that is fast with pictures.
    path = file_of(tmp_path, asked(data_url(png())))
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.1+00:00,90,9\n" * 2
    )
    given = {**WANTED, "dataset": f"file:{path}", **settings}
    if "trace" in settings:
        del given["concurrencies"], given["duration_s"], given["ignore_eos"]
        given["trace"] = str(azure)
    one = Scenario(name="seen", **given)
    with pytest.raises(PromptError, match=word):
        plans_for(one, None, {})


@pytest.mark.process
def test_a_server_without_a_profiler_is_told_before_the_first_request(tmp_path: Path) -> None:
    with simulator("--served-model-name", "m") as (url, _):
        path = write_scenario(tmp_path, base_url=url, **{**WANTED, "dataset": "sample"})
        done = run_bench(tmp_path, path, "--profile", "1")
    assert done.returncode == 2
    assert "--profiler-config" in done.stderr
    assert not [*(tmp_path / "results").glob("*.csv")]
