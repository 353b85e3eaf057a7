"""What the simulator's /metrics says beyond its load, in the words of a real server's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sim.beyond import Beyond
from sim.engine.engine import EngineState
from sim.metrics import Metrics
from sim.wire.generation import IMAGE_TOKENS
from sim.wire.settings import Settings

from tests.prompts.test_images import data_url, png
from tests.sim.simulated import Simulated

ASK = {"model": "simulated", "prompt": [7] * 100, "max_tokens": 44, "ignore_eos": True}
FLAGS = ("--exact", "--ttft-ms", "1", "--itl-ms", "0.2")


def said(*flags: str, requests: int = 6) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with Simulated(*FLAGS, *flags) as server:
        for _ in range(requests):
            server.client.post("/v1/completions", json=ASK)
        text = server.client.get("/metrics").text
    return {
        (s.name.removeprefix("vllm:"), tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def of(found: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str) -> list[float]:
    return [value for (key, _), value in found.items() if key == name]


@pytest.mark.process
def test_one_server_says_when_it_began_and_where_its_prompts_came_from() -> None:
    found = said()
    assert len(of(found, "process_start_time_seconds")) == 1
    assert of(found, "prompt_tokens_by_source_total") == [600, 0, 0]
    assert of(found, "admission_rejections_total") == [0, 0]


@pytest.mark.process
@pytest.mark.parametrize(
    ("fault", "each"), [([], [2, 2, 2]), (["--faults", "idle_engine"], [3, 3, 0])]
)
def test_engines_get_requests_in_turn_or_the_last_gets_none(
    fault: list[str], each: list[int]
) -> None:
    found = said("--data-parallel-size", "3", *fault)
    assert of(found, "generation_tokens_total") == [44 * n for n in each]
    assert of(found, "process_start_time_seconds") == []


@pytest.mark.process
def test_drafts_are_of_the_tokens_that_were_made() -> None:
    found = said("--num-speculative-tokens", "2")
    (drafts,), (accepted,) = (
        of(found, f"spec_decode_num_{n}_total") for n in ("drafts", "accepted_tokens")
    )
    assert drafts + accepted == pytest.approx(6 * 44, abs=2)
    assert sum(of(found, "spec_decode_num_accepted_tokens_per_pos_total")) == accepted


@pytest.mark.process
def test_transfers_and_refusals_are_counted() -> None:
    found = said("--faults", "transferred=40, http_503:#2")
    assert of(found, "prompt_tokens_by_source_total") == [300, 0, 200]
    assert of(found, "external_prefix_cache_hits_total") == [200]
    assert of(found, "admission_rejections_total") == [1, 0]


@pytest.mark.parametrize(
    "page", ["metrics_two_engines", "metrics_ngram", "metrics_lora_under_load"]
)
def test_families_have_the_words_of_a_real_servers(shared: Path, page: str) -> None:
    text = (shared / "wire2" / f"{page}.txt").read_text().partition("\n\n")[2]
    real = {family.name: family for family in text_string_to_metric_families(text)}
    lora = ("red", "blue") if "lora" in page else ()
    beyond = Beyond(engines=1 + ("two" in page), drafted=5 * ("ngram" in page), adapters=lora)
    ours = Metrics(Settings("tiny", ("tiny",)), EngineState, beyond).text().decode()
    for family in text_string_to_metric_families(ours):
        theirs = real[family.name]
        assert (family.type, family.documentation) == (theirs.type, theirs.documentation)
        if not family.name.endswith(("_info", "process_start_time_seconds")):
            assert {frozenset(s.labels.items()) for s in family.samples} <= {
                frozenset(s.labels.items()) for s in theirs.samples
            }


class Waiting(SimpleNamespace):
    """As a choice is, a key of a mapping."""

    __hash__ = object.__hash__


def choice(model: str, *, started: bool) -> Any:
    """A choice without a token yet, that runs or waits."""
    ask = SimpleNamespace(model=model, prompt=(1, 2))
    return Waiting(ask=ask, times_ns=[], started_ns=int(started))


def test_adapters_in_use_are_told_and_who_waits_for_their_place() -> None:
    beyond = Beyond(adapters=("red", "blue"))
    metrics = Metrics(Settings("tiny", ("tiny",)), lambda: EngineState(1, 2), beyond)
    for model, started in (("red", True), ("blue", False), ("tiny", False)):
        metrics.begin(choice(model, started=started))
    families = text_string_to_metric_families(metrics.text().decode())
    found = {s.name: s for family in families for s in family.samples}
    assert found["vllm:lora_requests_info"].labels["running_lora_adapters"] == "red"
    text = metrics.text().decode()
    assert 'by_reason{engine="0",model_name="tiny",reason="capacity"} 1.0' in text
    assert 'by_reason{engine="0",model_name="tiny",reason="deferred"} 1.0' in text


@pytest.mark.process
@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_pictures_are_tokens_of_their_own_and_the_processors_cache_counts_them(
    endpoint: str,
) -> None:
    def ask(*reds: int) -> dict[str, Any]:
        urls = [data_url(png(red)) for red in reds]
        if endpoint == "/v1/responses":
            parts = [{"type": "input_image", "image_url": url} for url in urls]
            return {"model": "simulated", "input": [{"role": "user", "content": parts}]}
        content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        messages = [{"role": "user", "content": content}]
        return {"model": "simulated", "messages": messages, "max_tokens": 2}

    with Simulated(*FLAGS) as server:
        replies = [server.client.post(endpoint, json=ask(*reds)) for reds in ((), (1,), (1, 2))]
        usages = [reply.json()["usage"] for reply in replies]
        page = server.client.get("/metrics").text
    tokens = [usage.get("prompt_tokens", usage.get("input_tokens")) for usage in usages]
    assert [n - tokens[0] for n in tokens] == [0, IMAGE_TOKENS, 2 * IMAGE_TOKENS]
    assert 'vllm:mm_cache_queries_total{engine="0",model_name="simulated"} 3.0' in page
    assert 'vllm:mm_cache_hits_total{engine="0",model_name="simulated"} 1.0' in page
