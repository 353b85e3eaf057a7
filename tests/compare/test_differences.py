"""What differs between two sides, and what of it nobody may see."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.compare.compare import How, compare
from vllm_bench.compare.differences import differences
from vllm_bench.compare.history import against_history
from vllm_bench.compare.pairs import Side
from vllm_bench.records.text import ABSENT
from vllm_bench.serverside.gpu import GpuUse, Readings
from vllm_bench.summary.summary import RunSummary

from tests.compare.written import read, write_side
from tests.machines.made import made_health

NO_READINGS: dict[str, Any] = {field.name: None for field in dataclasses.fields(Readings)}


def side(folder: Path, label: str, **changes: Any) -> Side:
    return Side(label, read(write_side(folder, label, repeats=1, requests=8, **changes)))


def apart(a: Side, b: Side) -> dict[str, tuple[str, str]]:
    return {one.what: (one.a, one.b) for one in differences(a, b)}


def test_the_same_but_for_the_label(tmp_path: Path) -> None:
    assert apart(side(tmp_path, "a"), side(tmp_path, "b")) == {"label": ("a", "b")}


@pytest.mark.parametrize(
    ("changes", "what", "values"),
    [
        ({"server": {"version": "0.33.0"}}, "server version", ("0.32.0", "0.33.0")),
        ({"server": {"simulator": True}}, "server kind", ("vLLM", "simulator")),
        ({"server": {"max_model_len": 4096}}, "server max_model_len", (ABSENT, "4096")),
        ({"server": {"cache_config": {"x": "1"}}}, "server cache x", (ABSENT, "1")),
        ({"scenario": {"max_new_tokens": 7}}, "scenario max_new_tokens", ("20", "7")),
        ({"scenario": {"extra_body": {"n": 2}}}, "scenario extra_body.n", (ABSENT, "2")),
        ({"client": {"cpu_count": 3}}, "client CPUs", (ABSENT, "3")),
        ({"client": {"git_commit": "ab" * 20}}, "client commit", ("0" * 10, "ababababab")),
        ({"client_health": made_health()}, "client machines", (ABSENT, "4 of 4 cores each")),
    ],
)
def test_a_fact_that_differs_is_told(
    tmp_path: Path, changes: dict[str, Any], what: str, values: tuple[str, str]
) -> None:
    assert apart(side(tmp_path, "a"), side(tmp_path, "b", **changes))[what] == values


def test_settings_of_the_server_are_told_where_both_tell_them(tmp_path: Path) -> None:
    def told(label: str, **settings: Any) -> Side:
        return side(tmp_path, label, server={"settings": settings})

    found = apart(told("a", max_num_seqs=16, x=[1]), told("b", max_num_seqs=64, x=[1], new=True))
    assert found["server setting max_num_seqs"] == ("16", "64")
    assert found["server setting new"] == (ABSENT, "True")
    assert not any(what.endswith(" x") for what in found)
    found = apart(told("c", max_num_seqs=16), side(tmp_path, "d"))
    assert not any(what.startswith("server setting") for what in found)


@pytest.mark.parametrize(
    "settings",
    [
        {"hf_token": "sesame"},
        {"nested": {"api_key": "sesame"}},
        {"args": ["--api-key", "sesame", "--port", "1"]},
        {"args": "--hf-token sesame"},
        {"address": "http://me:sesame@host/v1"},
        {"env": "API_KEY=sesame"},
    ],
)
def test_no_secret_is_shown(tmp_path: Path, settings: dict[str, Any]) -> None:
    for key in ("settings", "cache_config"):
        one = side(tmp_path / key, "a", server={key: {**settings, "x": 0}})
        other = side(tmp_path / key, "b", server={key: {"x": 1}})
        found = apart(one, other)
        assert any(what.endswith(" x") for what in found)
        assert "sesame" not in str(found)


def test_a_fact_is_told_once(tmp_path: Path) -> None:
    def told(label: str, blocks: int, version: str) -> Side:
        settings = {"num_gpu_blocks": blocks, "version": version}
        cache = {"num_gpu_blocks": str(blocks)}
        server = {"version": version, "settings": settings, "cache_config": cache}
        return side(tmp_path, label, server=server)

    found = apart(told("a", 1, "v1"), told("b", 2, "v2"))
    assert set(found) == {"label", "server version", "server setting num_gpu_blocks"}


def test_texts_are_escaped_and_short(tmp_path: Path) -> None:
    odd = "\x1b[2J" + "x" * 1000
    found = differences(side(tmp_path, "a"), side(tmp_path, "b", server={"version": odd}))
    assert "\x1b" not in str(found)
    assert all(len(one.b) < 500 for one in found)


def test_levels_that_one_side_alone_has_make_no_difference(tmp_path: Path) -> None:
    a = side(tmp_path, "a")
    more = side(tmp_path, "b", streams=(8,), server={"version": "9"})
    both = Side("b", (*side(tmp_path, "b").runs, *more.runs))
    assert "server version" not in apart(a, both)


def with_gpus(runs: tuple[RunSummary, ...], clock_mhz: float) -> tuple[RunSummary, ...]:
    """Return the runs as on one GPU with this clock."""
    use = GpuUse(index=0, name="H100", samples=9, covered_share=1.0, throttled_by={}, **NO_READINGS)
    return tuple(
        dataclasses.replace(
            run,
            gpu_side=dataclasses.replace(run.gpu_side, gpus=(use,), sm_clock_mean_mhz=clock_mhz),
        )
        for run in runs
    )


def test_clocks_are_told_where_they_are_apart(tmp_path: Path) -> None:
    a, b = side(tmp_path, "a"), side(tmp_path, "b")
    for clock, told in ((1402.0, False), (1300.0, True)):
        one = Side("a", with_gpus(a.runs, 1400.0))
        found = apart(one, Side("b", with_gpus(b.runs, clock)))
        assert ("GPU clock, mean" in found) is told
        assert "GPUs" not in found
    assert apart(one, b)["GPUs"] == ("1 x H100", ABSENT)


# ---- hardware, and sides of several ----


def observed(name: str, many: int = 1) -> dict[str, Any]:
    gpus = [{"index": place, "uuid": None, "name": name} for place in range(many)]
    return {"observed": {"gpu": {"gpus": gpus}}}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (observed("H100"), observed("A100")),
        (observed("H100"), observed("H100", 2)),
        ({"server": {"simulator": True}}, {}),
        (
            {"client": {"machine": "x86_64", "cpu_count": 2}},
            {"client": {"machine": "x86_64", "cpu_count": 4}},
        ),
        (
            {"client": {"machine": "x86_64", "cpu_count": 4}},
            {
                "client": {"machine": "x86_64", "cpu_count": 4},
                "client_health": made_health(("a", "b")),
            },
        ),
    ],
)
def test_other_hardware_is_refused_unless_asked_for(
    tmp_path: Path, a: dict[str, Any], b: dict[str, Any]
) -> None:
    one = Side("a", read(write_side(tmp_path, "a", **a)))
    other = Side("b", read(write_side(tmp_path, "b", at_s=9, **b)))
    refused = compare(one, other)
    assert refused.exit_code == 4
    assert "--other-hardware" in refused.refusals[0]
    assert all(row.effect for row in refused.levels[0].rows[:3])
    assert compare(one, other, How(same_hardware=False)).exit_code == 0


def test_a_side_of_several_settings_is_told(tmp_path: Path) -> None:
    one = Side("a", read(write_side(tmp_path, "a")))
    paths = [
        *write_side(tmp_path, "b", repeats=3, at_s=9),
        *write_side(tmp_path, "c", at_s=20)[3:],
    ]
    found = compare(one, Side("b,c", read(paths)))
    assert any("B is of several: label b, c" in note for note in found.notes)


@pytest.mark.parametrize("against", [compare, against_history])
def test_a_simulator_says_so_wherever_it_is_shown(tmp_path: Path, against: Any) -> None:
    simulated = {"server": {"simulator": True}}
    one = Side("a", read(write_side(tmp_path, "a", **simulated)))
    other = Side("b", read(write_side(tmp_path, "b", at_s=9, **simulated)))
    assert any("simulator" in note for note in against(one, other).notes)
