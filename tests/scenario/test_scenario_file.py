"""The file around the scenarios: its shape, its names, and YAML's own mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from vllm_bench.scenario.scenario import load_scenarios

from tests.support.scenario_files import WHOLE, file_of, refusal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping with the keys defaults and scenarios"),
        ("- a", "must be a mapping with the keys defaults and scenarios"),
        ("scenario: {}", "unknown key scenario: allowed are defaults, scenarios; did you mean"),
        ("defaults: {model: m}", "no scenarios: the key scenarios must name at least one"),
        ("scenarios:", "no scenarios: the key scenarios must name at least one"),
        ("scenarios: 3", "scenarios must be a mapping, not int"),
        ("scenarios: {a: 3}", "scenario a: settings must be a mapping, not int"),
        ("scenarios: {a: }", "scenario a: model is missing; max_new_tokens is missing"),
        ("defaults: {modle: m}\nscenarios: {a: }", "defaults: unknown key modle; did you mean mod"),
        ("a: 1\nb: 2\na: 3", "line 3: the key a is there twice"),
        ("scenarios:\n  a: {}\n  a: {}", "line 3: the key a is there twice"),
        ("scenarios:\n  a: {seed: 1, seed: 2}", "line 2: the key seed is there twice"),
        ("? [a, b]\n: c", "line 1: a list or a mapping can't be a key"),
        ("a: b: c", "not YAML: line 1, column 5: mapping values are not allowed here"),
        ("scenarios: {a: &a [*a]}", "line 1: an alias inside its own anchor"),
        ("a: \x01", "not YAML: line 1: the character U+0001"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(file_of(tmp_path, text)).startswith(said)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "-x", "a\nb", "a b", "é", "x" * 65])
def test_a_scenario_whose_name_no_file_should_have_is_refused(tmp_path: Path, name: str) -> None:
    text = refusal(file_of(tmp_path, yaml.safe_dump({"scenarios": {name: WHOLE}})))
    assert "name: " in text
    assert "letter or digit first" in text


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.yaml").startswith("can't be read: ")
    assert refusal(tmp_path).startswith("can't be read: ")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    assert "utf-8" in refusal(tmp_path / "latin.yaml")


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = """
        scenarios:
          a: &a {model: m, max_new_tokens: 1, concurrencies: [1], num_requests: 2}
          b: {<<: *a, num_requests: 3}
        """
    found = load_scenarios(file_of(tmp_path, text))
    assert (found["a"].num_requests, found["b"].num_requests) == (2, 3)
