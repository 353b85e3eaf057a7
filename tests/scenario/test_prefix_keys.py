"""What `prefix` may say, and with which other keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm_bench.scenario.scenario import load_scenarios

from tests.support.scenario_files import file_with, refusal

GROUPS = {"groups": 4, "tokens": 96}
LONG = {"prefill_tokens": 150}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prefix": GROUPS}, ["prefix needs prefill_tokens"]),
        ({"prefix": {"groups": 4, "tokens": 150}, **LONG}, ["prefix.tokens: 150", "below", "150"]),
        ({"prefix": {"groups": 4}, **LONG}, ["prefix: give one of tokens, hit_rate"]),
        ({"prefix": {**GROUPS, "hit_rate": 0.5}, **LONG}, ["give one of tokens, hit_rate"]),
        ({"prefix": {"groups": 0, "tokens": 9}, **LONG}, ["prefix.groups", "1"]),
        ({"prefix": {"groups": 1, "hit_rate": 1}, **LONG}, ["prefix.hit_rate", "1"]),
        ({"prefix": {**GROUPS, "share": 0}, **LONG}, ["prefix.share", "0"]),
        ({"prefix": {**GROUPS, "shares": 0.5}, **LONG}, ["prefix.shares", "share"]),
        ({"prefix": 4, **LONG}, ["prefix: must be a mapping, as in {groups: 32"]),
        ({"prefix": GROUPS, **LONG, "cache": "cold"}, ["cache: cold"]),
        ({"prefix": GROUPS, **LONG, "prompt_fit": "natural"}, ["prompt_fit: natural"]),
        ({"prefix": GROUPS, **LONG, "conversations": {"turns": 2}}, ["prefix", "conversations"]),
    ],
)
def test_what_is_wrong_with_prefix_is_said(
    tmp_path: Path, keys: dict[str, object], words: list[str]
) -> None:
    said = refusal(file_with(tmp_path, {}, **keys))
    assert all(word in said for word in words), said


def test_a_class_may_have_groups_of_its_own(tmp_path: Path) -> None:
    classes = {"a": {"share": 0.5, "prefix": GROUPS, **LONG}, "b": {"share": 0.5}}
    path = file_with(
        tmp_path, {}, concurrencies=..., request_rates=[1.0], num_requests=9, classes=classes
    )
    chat = load_scenarios(path)["chat"]
    found = chat.of_class("a").prefix
    assert found is not None
    assert (found.groups, found.tokens, found.share, found.primed) == (4, 96, 1.0, False)
    assert chat.of_class("b").prefix is None
