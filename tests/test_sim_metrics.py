from __future__ import annotations

from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from sim.metric_names import length_buckets
from sim.metrics import CONTENT_TYPE, Histogram, Metrics
from sim.wire.settings import Settings


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_every_family_of_a_real_server_is_there_with_its_words_labels_and_buckets(
    shared: Path,
) -> None:
    head, _, text = (shared / "wire" / "metrics_before.txt").read_text().partition("\n\n")
    real = families(text)
    metrics = Metrics(Settings("tiny", ("tiny",), max_model_len=2048))
    metrics.http.answered("GET", "/v1/models", 200, (0, 1), 0.1)
    ours = families(metrics.text().decode())
    assert f"content-type: {CONTENT_TYPE}" in head
    assert set(ours) == set(real)
    for name, family in real.items():
        mine = ours[name]
        assert (mine.type, mine.documentation) == (family.type, family.documentation)
        assert series(mine) == series(family), name


def series(family: Any) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Names and labels of a family's samples; of info labels, the names alone."""
    told = family.name in ("vllm:cache_config_info", "python_info")
    return {
        (sample.name, frozenset((k, "" if told else v) for k, v in sample.labels.items()))
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 100) | st.sampled_from([0.1, 0.5, 1.0])))
def test_the_histogram_counts_as_prometheus_own_does(values: list[float]) -> None:
    bounds = (0.1, 0.5, 1.0, 10.0)
    theirs = prometheus_client.Histogram("x", "x", buckets=bounds, registry=None)
    ours = Histogram(bounds)
    ours.observe(values)
    for value in values:
        theirs.observe(value)
    samples = {s.labels["le"]: s.value for m in theirs.collect() for s in m.samples if s.labels}
    assert dict(ours.buckets()) == samples
    assert ours.total == pytest.approx(sum(values))


def test_length_buckets_end_at_the_context_length() -> None:
    assert length_buckets(2048)[-4:] == (200, 500, 1000, 2000)
    assert length_buckets(1) == (1,)


def test_what_probes_ask_for_is_not_counted() -> None:
    metrics = Metrics(Settings("tiny", ("tiny",)))
    metrics.http.answered("GET", "/health", 200, (0, 0), 0.1)
    assert "http_requests_total{" not in metrics.text().decode()
    metrics.http.answered("POST", "/v1/completions", 404, (5, 7), 0.1)
    line = 'http_requests_total{handler="/v1/completions",method="POST",status="4xx"} 1.0'
    assert line in metrics.text().decode()
