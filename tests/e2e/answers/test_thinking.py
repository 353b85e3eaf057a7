"""A model that thinks, on real vLLM and on the simulator: by chat, and by /v1/responses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.e2e.conftest import COMMANDS, Served, start, tiny_model
from tests.e2e.scripts import assert_ran, bench_words, rows, script

pytestmark = [pytest.mark.vllm, pytest.mark.process]

TOKENS = 120
# The last word of the model's vocabulary is `</think>`, which a random model seldom says.
ENDS = {"logit_bias": {"4095": 4.5}}
FLAGS = {
    "vllm": ("--reasoning-parser", "qwen3"),
    "simulator": ("--reasoning-parser", "qwen3", "--reasoning-tokens", "5-100"),
}


@pytest.fixture(scope="module", params=COMMANDS)
def thinker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    kind, folder = request.param, tmp_path_factory.mktemp(f"{request.param}_thinks")
    more = {}
    if kind == "vllm":
        more = {"VLLM_CPU_MODEL": tiny_model(folder / "model", "--thinks")}
    served = start(kind, folder, *FLAGS[kind], **more)
    yield served
    served.kill()


def measured(folder: Path, served: Served, dataset: str, **changes: Any) -> pd.DataFrame:
    usual = {"max_new_tokens": TOKENS, "ignore_eos": True, "temperature": 1.0, **changes}
    assert_ran(script(folder, "bench.py", *bench_words(folder, served, dataset, **usual)))
    return rows(folder)


@pytest.mark.parametrize(
    ("endpoint", "stream"), [("chat", True), ("responses", True), ("responses", False)]
)
def test_thoughts_come_first_and_are_counted(
    tmp_path: Path, thinker: Served, dataset: str, endpoint: str, stream: bool
) -> None:
    asked = {"endpoint": endpoint, "stream": stream, "system_prompt": "Be brief."}
    found = measured(tmp_path, thinker, dataset, extra_body=ENDS, **asked)
    assert (found["completion_tokens"] == TOKENS).all()
    assert (found["finish_reason"] == "length").all()
    # The server counted the same prompt before, with the system prompt in its place.
    assert (found["prompt_tokens"] == found["prompt_tokens_planned"]).all()
    thought = found[found["thoughts"] == "apart"]
    assert len(thought) >= len(found) / 2
    # vLLM counts fewer tokens than it sent of a model that says marks at random: then none is told.
    known = thought["thinking_tokens"].dropna()
    assert len(known) >= 0.7 * len(thought)
    assert known.between(1, TOKENS).all()
    answered = found["visible_events"] > 0
    assert answered.any()
    if stream:
        assert (found["ttfa_ms"].notna() == answered).all()
        assert (found.loc[answered, "ttfa_ms"] >= found.loc[answered, "ttft_ms"]).all()
        assert (thought["ttfa_ms"] > thought["ttft_ms"]).any()


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_replies_that_are_cut_while_they_think_are_unanswered(
    tmp_path: Path, thinker: Served, dataset: str, endpoint: str
) -> None:
    found = measured(tmp_path, thinker, dataset, endpoint=endpoint, max_new_tokens=4)
    cut = found[found["visible_events"] == 0]
    assert len(cut) >= len(found) - 2  # a random model may end its thought by chance
    assert cut["ttfa_ms"].isna().all()
    assert cut["ttft_ms"].notna().all()
    assert cut["thinking_tokens"].between(1, 4).all()  # marks that it says aren't counted
    out = script(tmp_path, "summarize.py", "--last", "--results-dir", str(tmp_path / "results"))
    assert "unanswered" in out.stdout
